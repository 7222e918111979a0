//! What leaves an actor: containers of its fields are copied, so that nobody else can change them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::{c_int, c_void};
use std::sync::Arc;

use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyFunction, PyModule, PyString, PyTuple, PyType};

use crate::behavior::type_name;
use crate::calls::Args;
use crate::class_actor::ActorBase;
use crate::collector;
use crate::containers::{each_inner, may_change};
use crate::copies::deep_copy;
use crate::current::current;
use crate::errors::not_handed_out;
use crate::interrupts::again_if_interrupted;
use crate::promise::Promise;
use crate::refs::Ref;
use crate::selves;

/// How many objects of other kinds are looked into: more would cost too much at each answer.
const MOST_OBJECTS: usize = 1000;

thread_local! {
    /// The addresses of the containers that were kept in the open turn of this thread.
    static OWNED: RefCell<Owned> = RefCell::default();
}

#[derive(Default)]
struct Owned {
    /// The vat and the turn that they belong to.
    turn: (u64, u64),
    addresses: HashSet<usize>,
    /// Those of many containers, which need not be put with the others.
    many: Vec<Arc<HashSet<usize>>>,
}

/// So many are put with the others at each turn that sees them.
const FEW: usize = 64;

/// Forgets the containers of an earlier turn.
pub(crate) fn begin(turn: (u64, u64)) {
    OWNED.with(|owned| {
        let mut owned = owned.borrow_mut();
        if owned.turn != turn {
            owned.turn = turn;
            owned.addresses.clear();
            owned.many.clear();
        }
    });
}

/// A container belongs to a field.
pub(crate) fn note_owned(address: usize) {
    OWNED.with(|owned| owned.borrow_mut().addresses.insert(address));
}

/// As [`note_owned`], for several.
pub(crate) fn note_all_owned(addresses: &Arc<HashSet<usize>>) {
    OWNED.with(|owned| {
        let mut owned = owned.borrow_mut();
        if addresses.len() <= FEW {
            owned.addresses.extend(&**addresses);
        } else {
            owned.many.push(addresses.clone());
        }
    });
}

fn is_owned(address: usize) -> bool {
    OWNED.with(|owned| {
        let owned = owned.borrow();
        owned.addresses.contains(&address) || owned.many.iter().any(|many| many.contains(&address))
    })
}

/// Whether any container was kept in the open turn.
fn any_owned() -> bool {
    OWNED.with(|owned| {
        let owned = owned.borrow();
        // Asked at every call: in most turns no container was touched.
        !(owned.addresses.is_empty() && owned.many.is_empty())
            && current().is_some_and(|churn| owned.turn == (churn.vat().id().0, churn.epoch()))
    })
}

/// Where a value goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To another actor, in the same turn: what it changes there is seen at the end.
    Within,
    /// To where it may be used after the turn.
    Away,
}

type Arguments<'py> = (Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>);

/// Arguments as they may leave their actor; `None` if they may leave as they are.
pub(crate) fn handed_out_args<'py>(
    py: Python<'py>,
    args: Args<'_, 'py>,
    way: Way,
) -> PyResult<Option<Arguments<'py>>> {
    if args.is_empty() {
        return Ok(None);
    }
    selves::check_args(py, args)?;
    if !any_owned() {
        return Ok(None);
    }
    copied_args(py, args, way)
}

#[inline(never)]
fn copied_args<'py>(py: Python<'py>, args: Args<'_, 'py>, way: Way) -> PyResult<Option<Arguments<'py>>> {
    let handed_out = |value| copied(value, way);
    let tuple = args.tuple(py)?.iter().map(handed_out).collect::<PyResult<Vec<_>>>()?;
    let dict = args.dict(py)?.map(|dict| dict.copy()).transpose()?;
    if let Some(dict) = &dict {
        for (name, value) in dict.copy()? {
            dict.set_item(name, handed_out(value)?)?;
        }
    }
    Ok(Some((PyTuple::new(py, tuple)?, dict)))
}

/// A value as it may leave its actor: containers of fields are copied.
pub(crate) fn handed_out(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    if is_plain(&value) || !any_owned() {
        return Ok(value);
    }
    copied(value, Way::Away)
}

/// Whether a value refers to no other one, and can't be changed.
fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    !collector::may_visit(value) && !value.is_exact_instance_of::<PyByteArray>()
}

fn copied(value: Bound<'_, PyAny>, way: Way) -> PyResult<Bound<'_, PyAny>> {
    let mut errors = Vec::new();
    let found = Search::of(&value, way, &mut errors);
    clean_all(errors);
    match found {
        Found::Nothing => Ok(value),
        Found::Containers => deep_copy(&value),
        Found::Within(holder) => Err(not_handed_out(&holder)),
    }
}

/// An error as it may leave its actor: containers of fields are copied in what it was given, and in its causes.
#[cold]
#[inline(never)]
pub(crate) fn error_handed_out(py: Python<'_>, error: PyErr) -> PyErr {
    if any_owned() {
        clean_all(vec![error.value(py).clone()]);
    }
    error
}

fn clean_all(mut todo: Vec<Bound<'_, PyBaseException>>) {
    let mut seen = HashSet::new();
    while let Some(error) = todo.pop() {
        if seen.insert(error.as_ptr() as usize) {
            let found = RefCell::new(todo);
            let cleaned = again_if_interrupted(error.py(), || clean(&error, &mut found.borrow_mut()));
            // What can't be looked at, nobody else can look at either.
            drop(cleaned);
            todo = found.into_inner();
        }
    }
}

fn clean<'py>(
    error: &Bound<'py, PyBaseException>,
    todo: &mut Vec<Bound<'py, PyBaseException>>,
) -> PyResult<()> {
    let py = error.py();
    for other in [intern!(py, "__cause__"), intern!(py, "__context__")] {
        todo.extend(error.getattr(other)?.cast_into::<PyBaseException>().ok());
    }
    if let Ok(several) = error.getattr(intern!(py, "exceptions"))
        && let Ok(several) = several.cast_into::<PyTuple>()
    {
        todo.extend(several.iter().filter_map(|error| error.cast_into::<PyBaseException>().ok()));
    }
    let args = error.getattr(intern!(py, "args"))?.cast_into::<PyTuple>()?;
    let mut changed = false;
    let mut others = Vec::with_capacity(args.len());
    for value in args.iter() {
        let other = for_error(value.clone(), todo)?;
        changed |= !other.is(&value);
        others.push(other);
    }
    if changed {
        error.setattr(intern!(py, "args"), PyTuple::new(py, others)?)?;
    }
    // SAFETY: gives an owned reference, or null with an exception set.
    let dict = unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyObject_GenericGetDict(error.as_ptr(), std::ptr::null_mut()))
    };
    if let Ok(Ok(dict)) = dict.map(Bound::cast_into::<PyDict>) {
        for (name, value) in dict.copy()? {
            let other = for_error(value.clone(), todo)?;
            if !other.is(&value) {
                dict.set_item(name, other)?;
            }
        }
    }
    // What is in neither, such as `AttributeError.obj`, or a slot of a class of the user.
    for class in error.get_type().mro() {
        let class = class.cast_into::<PyType>()?;
        if class.is(py.get_type::<PyBaseException>()) {
            break;
        }
        for name in class.getattr(intern!(py, "__dict__"))?.try_iter()? {
            let name = name?.cast_into::<PyString>()?;
            if name.to_str()?.starts_with("__") {
                continue;
            }
            let held = class.getattr(intern!(py, "__dict__"))?.get_item(&name)?;
            if !is_member(&held) {
                continue;
            }
            if let Ok(value) = error.getattr(&name) {
                let other = for_error(value.clone(), todo)?;
                if !other.is(&value) {
                    error.setattr(&name, other)?;
                }
            }
        }
    }
    Ok(())
}

/// Whether something in a class stands for a part of its instances.
fn is_member(held: &Bound<'_, PyAny>) -> bool {
    // SAFETY: only the address is taken.
    let member = &raw mut ffi::PyMemberDescr_Type;
    std::ptr::eq(held.get_type_ptr(), member)
}

fn for_error<'py>(
    value: Bound<'py, PyAny>,
    todo: &mut Vec<Bound<'py, PyBaseException>>,
) -> PyResult<Bound<'py, PyAny>> {
    if is_plain(&value) {
        return Ok(value);
    }
    match Search::of(&value, Way::Away, todo) {
        Found::Nothing => Ok(value),
        Found::Containers => deep_copy(&value),
        Found::Within(holder) => Ok(PyString::new(value.py(), &format!("<{holder}>")).into_any()),
    }
}

/// What a value leads to.
enum Found {
    Nothing,
    /// Containers of fields, by way of what can be copied.
    Containers,
    /// A container of a field, by way of something of this type.
    Within(String),
}

/// A walk through a value, which looks for containers of fields.
struct Search<'a, 'py> {
    way: Way,
    /// Errors that were met: what they hold is copied where they are.
    errors: &'a mut Vec<Bound<'py, PyBaseException>>,
    seen: HashSet<usize>,
    todo: Vec<Bound<'py, PyAny>>,
    found: bool,
}

impl<'a, 'py> Search<'a, 'py> {
    fn of(value: &Bound<'py, PyAny>, way: Way, errors: &'a mut Vec<Bound<'py, PyBaseException>>) -> Found {
        let mut search = Self { way, errors, seen: HashSet::new(), todo: vec![value.clone()], found: false };
        while let Some(value) = search.todo.pop() {
            if may_change(&value) {
                if search.container(&value) {
                    return Found::Containers;
                }
            } else if way == Way::Away && search.leads_to_owned(&value) {
                return Found::Within(type_name(&value));
            }
        }
        if search.found { Found::Containers } else { Found::Nothing }
    }

    /// Goes on with what stands in a container. True if it can't be read: the copy can't either, and says so.
    fn container(&mut self, value: &Bound<'py, PyAny>) -> bool {
        let address = value.as_ptr() as usize;
        if !self.seen.insert(address) {
            return false;
        }
        if is_owned(address) {
            self.found = true;
            return false;
        }
        let todo = &mut self.todo;
        if self.way == Way::Within {
            return each_inner(value, |inner| todo.push(inner)).is_err();
        }
        referents(value, todo);
        false
    }

    fn is_error(&mut self, object: &Bound<'py, PyAny>) -> bool {
        let Ok(error) = object.cast::<PyBaseException>() else {
            return false;
        };
        self.errors.push(error.clone());
        true
    }

    /// Whether an object of another kind leads to a container of a field.
    fn leads_to_owned(&mut self, object: &Bound<'py, PyAny>) -> bool {
        if self.is_error(object) || is_shut(object) || !self.seen.insert(object.as_ptr() as usize) {
            return false;
        }
        let mut todo = std::collections::VecDeque::new();
        let mut next = Vec::new();
        let mut looked_at = 0;
        todo.push_back(object.clone());
        while let Some(object) = todo.pop_front() {
            looked_at += 1;
            if looked_at > MOST_OBJECTS {
                return false;
            }
            if let Ok(function) = object.cast_exact::<PyFunction>() {
                variables(function, &mut next);
            } else {
                referents(&object, &mut next);
            }
            for inner in next.drain(..) {
                if is_owned(inner.as_ptr() as usize) {
                    return true;
                }
                if !self.is_error(&inner) && !is_shut(&inner) && self.seen.insert(inner.as_ptr() as usize) {
                    todo.push_back(inner);
                }
            }
        }
        false
    }
}

/// Whether nobody gets at containers by way of an object: it refers to none, or sees to it itself.
fn is_shut(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: only the address is taken.
    let (frame, traceback) = (&raw mut ffi::PyFrame_Type, &raw mut ffi::PyTraceBack_Type);
    let class = object.get_type_ptr();
    is_plain(object)
        || object.is_exact_instance_of::<Ref>()
        || object.is_exact_instance_of::<Promise>()
        || object.is_instance_of::<ActorBase>()
        || object.is_instance_of::<PyType>()
        || object.is_instance_of::<PyModule>()
        || class == frame
        || class == traceback
}

/// What a function has of the one around it, and its defaults: not the variables of its module.
fn variables<'py>(function: &Bound<'py, PyFunction>, to: &mut Vec<Bound<'py, PyAny>>) {
    let py = function.py();
    // SAFETY: it is a function, and alive; the answers are borrowed from it, or null.
    unsafe {
        for part in [
            ffi::PyFunction_GetClosure(function.as_ptr()),
            ffi::PyFunction_GetDefaults(function.as_ptr()),
            ffi::PyFunction_GetKwDefaults(function.as_ptr()),
        ] {
            to.extend(Bound::from_borrowed_ptr_or_opt(py, part));
        }
    }
}

/// What an object refers to, as the collector sees it.
fn referents<'py>(object: &Bound<'py, PyAny>, to: &mut Vec<Bound<'py, PyAny>>) {
    extern "C" fn collect(object: *mut ffi::PyObject, to: *mut c_void) -> c_int {
        // SAFETY: it is what is given below, which waits for this.
        let to = unsafe { &mut *to.cast::<Vec<*mut ffi::PyObject>>() };
        if !object.is_null() {
            to.push(object);
        }
        0
    }
    if !collector::may_visit(object) {
        return;
    }
    let py = object.py();
    let mut found: Vec<*mut ffi::PyObject> = Vec::new();
    // SAFETY: the object is alive. Its slot is called as the collector does it, with a function that runs no code of
    // Python. What it refers to is alive as long as nothing else runs, and is held before that.
    unsafe {
        if let Some(traverse) = (*object.get_type_ptr()).tp_traverse {
            traverse(object.as_ptr(), collect, std::ptr::from_mut(&mut found).cast());
        }
        to.extend(found.into_iter().map(|object| Bound::from_borrowed_ptr(py, object)));
    }
}
