//! Actors as classes: an instance is a behavior, its fields are the state, its methods are the messages.
//!
//! The fields live in the instance's `__dict__`. The first time that a turn assigns one, or reads one that can be
//! changed in place, what is needed to undo is kept; at the end of the turn it is seen what has changed.

use std::collections::HashSet;
use std::sync::Arc;

use goblins_core::ids::Slot;
use goblins_core::vat::Vat;
use parking_lot::Mutex;
use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyDict, PyFrozenSet, PyFunction, PySet, PyString, PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference,
};

use crate::bcom::Become;
use crate::behavior::{Constructor, is_behavior, type_name};
use crate::calls::Args;
use crate::errors::{behavior_error, no_such_method, no_turn_error};
use crate::fields;
use crate::held::Held;
use crate::host::PyHost;
use crate::interrupts::found;
use crate::past;
use crate::refs::Ref;
use crate::saved::{Kept, expose, touch};
use crate::selves;

/// What is known of a class of actors.
#[pyclass(frozen, module = "goblins", name = "_ClassInfo")]
pub(crate) struct ClassInfo {
    pub(crate) name: Py<PyString>,
    pub(crate) label: Option<String>,
    pub(crate) version: Py<PyAny>,
    pub(crate) version_bytes: Vec<u8>,
    pub(crate) fields: Vec<Py<PyString>>,
    /// The functions that are messages, by name.
    pub(crate) methods: Py<PyDict>,
    /// Gives a field's default by its name, or raises LookupError.
    pub(crate) default: Py<PyAny>,
    /// Called after an instance was made from its record.
    restored: Option<Py<PyAny>>,
    /// The fields whose reads are noticed.
    pub(crate) guarded: Py<PySet>,
    /// `Migrations`, or a function, that makes today's fields of older ones.
    pub(crate) upgrade: Option<Py<PyAny>>,
    /// The fields that have no default.
    pub(crate) needs: Vec<String>,
    /// What instances may hold beside the fields, since the class computes it of these: it is no part of the state.
    pub(crate) caches: Py<PyFrozenSet>,
    /// The fields that a word was said about.
    told: Mutex<HashSet<usize>>,
}

#[pymethods]
impl ClassInfo {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "called with keywords, by one function")]
    fn new(
        name: Py<PyString>,
        label: Option<String>,
        version: Bound<'_, PyAny>,
        fields: Vec<Py<PyString>>,
        methods: Py<PyDict>,
        default: Py<PyAny>,
        restored: Option<Py<PyAny>>,
        guarded: Py<PySet>,
        upgrade: Option<Py<PyAny>>,
        needs: Vec<String>,
        caches: Py<PyFrozenSet>,
    ) -> PyResult<Self> {
        let version_bytes = crate::behavior::version_bytes(&version)?;
        let version = version.unbind();
        Ok(Self {
            name,
            label,
            version,
            version_bytes,
            fields,
            methods,
            default,
            restored,
            guarded,
            upgrade,
            needs,
            caches,
            told: Mutex::default(),
        })
    }

    #[getter]
    fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    #[getter]
    fn version(&self, py: Python<'_>) -> Py<PyAny> {
        self.version.clone_ref(py)
    }

    /// What was given with `upgrade=`.
    #[getter]
    fn upgrade(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.upgrade.as_ref().map(|upgrade| upgrade.clone_ref(py))
    }

    #[getter]
    fn fields(&self, py: Python<'_>) -> Vec<Py<PyString>> {
        self.fields.iter().map(|field| field.clone_ref(py)).collect()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.version)?;
        visit.call(&self.methods)?;
        visit.call(&self.default)?;
        visit.call(&self.restored)?;
        visit.call(&self.upgrade)
    }
}

impl ClassInfo {
    /// That of a class.
    pub(crate) fn of<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, Self>> {
        let py = class.py();
        let info = class.getattr(intern!(py, "__goblins__"))?;
        info.cast_into_exact::<Self>().map_err(|_| {
            behavior_error(format!("{class} is no class of actors: derive it from goblins.Actor"))
        })
    }

    /// Whether its instances hear that they were made from their records.
    pub(crate) fn is_told(&self) -> bool {
        self.restored.is_some()
    }

    /// The names of the methods, for messages.
    fn names(&self, py: Python<'_>) -> String {
        let names: Vec<String> = self.methods.bind(py).keys().iter().map(|name| name.to_string()).collect();
        names.join(", ")
    }

    /// True the first time that it is asked for a field.
    pub(crate) fn first_of(&self, field: &Bound<'_, PyString>) -> bool {
        let index = self.fields.iter().position(|known| known.is(field));
        index.is_some_and(|index| self.told.lock().insert(index))
    }

    pub(crate) fn has(&self, py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<bool> {
        for field in &self.fields {
            if field.is(name) || field.bind(py).as_any().eq(name)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The parent of all actors that are classes.
#[pyclass(subclass, frozen, weakref, module = "goblins", name = "_ActorBase")]
pub(crate) struct ActorBase {
    pub(crate) info: Py<ClassInfo>,
    /// The actor that it is the behavior of, or was. Weak: the actor owns its behavior.
    owner: Held<Py<PyWeakrefReference>>,
    /// What of its fields was last kept for undoing.
    pub(crate) kept: Held<Arc<Kept>>,
}

#[pymethods]
impl ActorBase {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        class: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        Ok(Self { info: ClassInfo::of(class)?.unbind(), owner: Held::none(), kept: Held::none() })
    }

    /// What was kept of its fields for a turn is not shown: the instance forgets that at the end of the turn, and who
    /// holds it until then shows it.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.info)?;
        self.kept.visited(&visit, |kept| kept.traverse_if_own(&visit)).unwrap_or(Ok(()))
    }

    /// The reference that others have to this actor.
    #[getter(r#ref)]
    fn reference<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Ref>> {
        slf.get().owner(slf.py()).actor().ok_or_else(|| unspawned(slf))
    }

    /// Makes a token that a method returns to become another actor, answering `value` (ACT-07).
    #[pyo3(name = "become", signature = (other, value=None, /))]
    fn become_other<'py>(
        slf: &Bound<'py, Self>,
        other: Bound<'py, PyAny>,
        value: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Become>> {
        let py = slf.py();
        let actor = slf.get().owner(py).actor().ok_or_else(|| unspawned(slf))?;
        if !is_behavior(&other) {
            return Err(behavior_error(format!(
                "become got {}, which is no behavior: give it an instance of a class of actors, or what a \
                 constructor returns",
                type_name(&other)
            )));
        }
        let value = value.unwrap_or_else(|| py.None());
        let cell = &actor.get().cell;
        Bound::new(py, Become { vat: cell.vat().id(), slot: cell.slot(), behavior: other.unbind(), value })
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let info = slf.get().info.get();
        if info.has(py, name)? {
            selves::check_field(value, info, name)?;
            touch(slf)?;
            return past::own(|| generic_set(slf, name, value.as_ptr()));
        }
        if !has_setter(slf, name)? {
            return Err(no_field(info, py, name));
        }
        generic_set(slf, name, value.as_ptr())
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>) -> PyResult<()> {
        if slf.get().info.get().caches.bind(slf.py()).contains(name)? {
            touch(slf)?;
            return past::own(|| fields::dict(slf)?.del_item(name));
        }
        if !slf.get().info.get().has(slf.py(), name)? && has_setter(slf, name)? {
            return generic_set(slf, name, std::ptr::null_mut());
        }
        let info = slf.get().info.bind(slf.py()).get().name.bind(slf.py()).to_string_lossy().into_owned();
        Err(PyAttributeError::new_err(format!("a field of an actor can't be deleted: {info}.{name}")))
    }
}

/// Sets an attribute as any object does it; null deletes it.
pub(crate) fn generic_set(
    instance: &Bound<'_, ActorBase>,
    name: &Bound<'_, PyString>,
    value: *mut ffi::PyObject,
) -> PyResult<()> {
    // SAFETY: all are alive, or null; -1 means that an exception is set.
    match unsafe { ffi::PyObject_GenericSetAttr(instance.as_ptr(), name.as_ptr(), value) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(instance.py())),
    }
}

/// Whether a name that is no field is a property, or another descriptor written in Python: code of the class says what
/// an assignment does. Slots of a class are none, since what they hold would not be stored.
fn has_setter(instance: &Bound<'_, ActorBase>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    for class in instance.as_any().get_type().mro() {
        let namespace = class.getattr(intern!(class.py(), "__dict__"))?;
        if !namespace.contains(name)? {
            continue;
        }
        let found = namespace.get_item(name)?;
        // SAFETY: both are alive.
        if unsafe { ffi::PyObject_TypeCheck(found.as_ptr(), &raw mut ffi::PyProperty_Type) } != 0 {
            return Ok(true);
        }
        // SAFETY: a type that is alive; those built in are not on the heap, and so neither are those of slots.
        let is_written =
            unsafe { ffi::PyType_GetFlags(found.get_type_ptr()) } & ffi::Py_TPFLAGS_HEAPTYPE != 0;
        return Ok(is_written && found.get_type().hasattr(intern!(class.py(), "__set__"))?);
    }
    Ok(false)
}

fn unspawned(instance: &Bound<'_, ActorBase>) -> PyErr {
    let name = instance.get().info.get().name.bind(instance.py()).to_string_lossy().into_owned();
    no_turn_error(format!("this instance of {name} is no actor: make one with spawn({name}, ...)"))
}

pub(crate) fn no_field(info: &ClassInfo, py: Python<'_>, name: &Bound<'_, PyString>) -> PyErr {
    let class = info.name.bind(py);
    if name.to_string_lossy() == "__orig_class__" {
        // Of typing, for `Box[int](...)`, which takes this error to mean that the object can't know it.
        return PyAttributeError::new_err(format!("{class} does not keep its parameters"));
    }
    behavior_error(format!(
        "{class} has no field {name:?}, so it would not be stored: declare it in the class, as in `{name}: int = 0`",
        name = name.to_string_lossy()
    ))
}

/// Whose behavior an instance is.
pub(crate) enum Owner<'py> {
    /// Nobody's yet.
    Nobody,
    Actor(Bound<'py, Ref>),
    /// That of an actor which nobody refers to any more.
    Gone,
}

impl<'py> Owner<'py> {
    pub(crate) fn actor(self) -> Option<Bound<'py, Ref>> {
        match self {
            Self::Actor(actor) => Some(actor),
            Self::Nobody | Self::Gone => None,
        }
    }
}

impl ActorBase {
    /// Whether it is the behavior of an actor, or was.
    pub(crate) fn has_owner(&self, py: Python<'_>) -> bool {
        self.owner.is_some(py)
    }

    pub(crate) fn owner<'py>(&self, py: Python<'py>) -> Owner<'py> {
        let Some(owner) = self.owner.get(py) else {
            return Owner::Nobody;
        };
        let actor = owner.into_bound(py).upgrade().and_then(|actor| actor.cast_into_exact::<Ref>().ok());
        actor.map_or(Owner::Gone, Owner::Actor)
    }

    pub(crate) fn info(&self) -> &Py<ClassInfo> {
        &self.info
    }
}

/// The dict that holds the fields of an instance. What is changed in it belongs to the turn, as all changes do.
#[pyfunction]
pub(crate) fn _fields_of<'py>(instance: &Bound<'py, ActorBase>) -> PyResult<Bound<'py, PyDict>> {
    expose(instance)?;
    fields::dict(instance)
}

/// Lets reads of `__dict__` go to a property, though another parent of the class has a `__dict__` of its own.
#[pyfunction]
pub(crate) fn _guard_dict(class_: &Bound<'_, PyType>, property: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: it is a class made by a `class` statement, and alive; nobody else can have read this name of it before. -1
    // means that an exception is set.
    unsafe {
        let names = (*class_.as_type_ptr()).tp_dict;
        if ffi::PyDict_SetItemString(names, c"__dict__".as_ptr(), property.as_ptr()) != 0 {
            return Err(PyErr::fetch(class_.py()));
        }
        ffi::PyType_Modified(class_.as_type_ptr());
    }
    Ok(())
}

/// The instance that a behavior is, if it is one.
pub(crate) fn instance<'a, 'py>(behavior: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, ActorBase>> {
    behavior.cast::<ActorBase>().ok()
}

/// Whether a constructor is a class of actors.
pub(crate) fn class<'a, 'py>(constructor: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyType>> {
    let class = constructor.cast::<PyType>().ok()?;
    class.is_subclass_of::<ActorBase>().ok()?.then_some(class)
}

/// The class, of one with parameters: `Box` of `Box[int]`.
pub(crate) fn generic_class<'py>(constructor: &Bound<'py, PyAny>) -> Option<Bound<'py, PyType>> {
    if constructor.is_exact_instance_of::<Constructor>() || constructor.is_exact_instance_of::<PyFunction>() {
        return None;
    }
    let py = constructor.py();
    let origin = found(py, constructor.getattr_opt(intern!(py, "__origin__")))??;
    class(&origin).cloned()
}

/// Makes an instance without its fields.
pub(crate) fn blank<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, ActorBase>> {
    let py = class.py();
    // SAFETY: the type is alive, and its slot is called as the interpreter does it for `class.__new__(class)`: with a
    // tuple of arguments and no dict. It gives an owned reference, or null with an exception set.
    let made = unsafe {
        let Some(new) = (*class.as_type_ptr()).tp_new else {
            return Err(behavior_error(format!("{class} makes no instances")));
        };
        let arguments = PyTuple::empty(py);
        Bound::from_owned_ptr_or_err(py, new(class.as_type_ptr(), arguments.as_ptr(), std::ptr::null_mut()))
    }?;
    Ok(made.cast_into::<ActorBase>()?)
}

/// Refuses an instance that belongs to another actor: what one of the two changes would be stored for the other only.
pub(crate) fn check_free(instance: &Bound<'_, ActorBase>, slot: Slot, vat: &Vat<PyHost>) -> PyResult<()> {
    let Some(owner) = instance.get().owner(instance.py()).actor() else { return Ok(()) };
    let cell = &owner.get().cell;
    let is_own = cell.slot() == slot && cell.vat().id() == vat.id();
    if is_own || cell.vat().is_closed() {
        return Ok(());
    }
    Err(behavior_error(format!(
        "this instance of {} belongs to actor {} of vat {} already, and two actors can't share one: make a new instance",
        instance.get_type().name()?,
        cell.slot().0,
        cell.vat().name()
    )))
}

/// Makes an instance the behavior of an actor.
pub(crate) fn bind(instance: &Bound<'_, ActorBase>, actor: &Bound<'_, Ref>) -> PyResult<()> {
    let (py, this) = (instance.py(), instance.get());
    let owner = PyWeakrefReference::new(actor)?.unbind();
    let before = (this.owner.replace(py, Some(owner)), this.kept.replace(py, None));
    drop(before);
    fields::bound(instance)
}

/// Tells an instance that it was made from its record.
pub(crate) fn tell_restored(instance: &Bound<'_, ActorBase>) -> PyResult<()> {
    match &instance.get().info.get().restored {
        Some(hook) => crate::calls::call_with(hook.bind(instance.py()), (instance,)).map(drop),
        None => Ok(()),
    }
}

/// The error for a message that a class does not have. It stands apart, so that calls take little of the stack.
#[cold]
#[inline(never)]
fn not_among_methods(
    info: &ClassInfo,
    actor: &Bound<'_, Ref>,
    method: Option<&Bound<'_, PyString>>,
) -> PyErr {
    let py = actor.py();
    let (actor, names) = (actor.get().describe(py), info.names(py));
    no_such_method(match method {
        Some(name) => format!("{actor} has no method {:?}; it has {names}", name.to_string_lossy()),
        None => format!("{actor} answers to methods only ({names}); call one of them"),
    })
}

/// Gives a message to an instance.
pub(crate) fn invoke<'py>(
    instance: &Bound<'py, ActorBase>,
    actor: &Bound<'py, Ref>,
    method: Option<&Bound<'py, PyString>>,
    args: Args<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = instance.py();
    let info = instance.get().info.get();
    let name = method.unwrap_or_else(|| intern!(py, "__call__"));
    let Some(function) = info.methods.bind(py).get_item(name)? else {
        return Err(not_among_methods(info, actor, method));
    };
    // SAFETY: it is alive.
    let holders = || unsafe { ffi::Py_REFCNT(instance.as_ptr()) };
    let before = holders();
    if past::is_any() {
        past::put_back(py);
    }
    let mut answer = args.call_method(&function, instance.as_any());
    if past::is_any() {
        answer = past::judge(py, answer);
    }
    let answer = answer?;
    if holders() > before {
        selves::check_answer(&answer)?;
    }
    Ok(answer)
}
