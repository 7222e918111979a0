//! Calls out of Python into us, and from us into the user's Python, without tuples in between (PEP 590).

use std::ptr::null_mut;
use std::sync::Once;

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::ffi::{self, PyObject};
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

type CallPacked = unsafe extern "C-unwind" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject;
type CallVector =
    unsafe extern "C-unwind" fn(*mut PyObject, *const *mut PyObject, usize, *mut PyObject) -> *mut PyObject;

// PyO3 declares that these never unwind: but see `Hang`.
// SAFETY: the same functions, which may do more than was said.
static CALL_PACKED: CallPacked = unsafe {
    std::mem::transmute::<
        unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject,
        CallPacked,
    >(ffi::PyObject_Call)
};
// SAFETY: as above.
static CALL_VECTOR: CallVector = unsafe {
    std::mem::transmute::<
        unsafe extern "C" fn(*mut PyObject, *const *mut PyObject, usize, *mut PyObject) -> *mut PyObject,
        CallVector,
    >(ffi::PyObject_Vectorcall)
};
type Send =
    unsafe extern "C-unwind" fn(*mut PyObject, *mut PyObject, *mut *mut PyObject) -> ffi::PySendResult;
// SAFETY: as above.
static SEND: Send = unsafe {
    std::mem::transmute::<
        unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut *mut PyObject) -> ffi::PySendResult,
        Send,
    >(ffi::PyIter_Send)
};

/// Stops a thread for good, should it be unwound.
///
/// CPython before 3.14 ends a thread that comes back to an interpreter which is shutting down, by unwinding
/// its stack. Rust must not be unwound by others: such a thread waits instead for the end of the process.
struct Hang;

impl Drop for Hang {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// So many arguments are put on the stack, after the object that a method gets first.
const FEW: usize = 6;

/// The arguments of a call.
#[derive(Clone, Copy)]
pub(crate) enum Args<'a, 'py> {
    /// In a tuple and a dict.
    Packed(&'a Bound<'py, PyTuple>, Option<&'a Bound<'py, PyDict>>),
    /// As the interpreter has them.
    Vector(Vector<'a, 'py>),
}

/// The arguments of a call as the interpreter has them: positional ones, then those that have a name.
#[derive(Clone, Copy)]
pub(crate) struct Vector<'a, 'py> {
    values: *const *mut PyObject,
    /// The number of positional ones, and a flag of the interpreter.
    count: usize,
    names: *mut PyObject,
    lives: std::marker::PhantomData<(&'a (), Python<'py>)>,
}

impl<'a, 'py> Vector<'a, 'py> {
    /// The positional arguments.
    pub(crate) fn positional(
        self,
        py: Python<'py>,
    ) -> impl ExactSizeIterator<Item = Borrowed<'a, 'py, PyAny>> {
        let count = self.positional_count();
        // SAFETY: the interpreter keeps all of them alive during the call, which `'a` does not outlive.
        (0..count).map(move |index| unsafe { Borrowed::from_ptr(py, *self.values.add(index)) })
    }

    /// Those with a name, too.
    fn all(self, py: Python<'py>) -> PyResult<impl Iterator<Item = Borrowed<'a, 'py, PyAny>>> {
        let named = if self.names.is_null() {
            0
        } else {
            // SAFETY: the interpreter gives a tuple of names, which lives as long as the call.
            unsafe { Borrowed::from_ptr(py, self.names) }.cast::<PyTuple>()?.len()
        };
        let count = self.positional_count() + named;
        // SAFETY: as for the positional ones, which those with a name follow.
        Ok((0..count).map(move |index| unsafe { Borrowed::from_ptr(py, *self.values.add(index)) }))
    }

    pub(crate) fn has_names(self) -> bool {
        !self.names.is_null()
    }

    fn positional_count(self) -> usize {
        self.count & !ffi::PY_VECTORCALL_ARGUMENTS_OFFSET
    }

    fn tuple(self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.positional(py))
    }

    fn dict(self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        if self.names.is_null() {
            return Ok(None);
        }
        // SAFETY: as above; the interpreter gives a tuple of names, and a value for each.
        let names = unsafe { Borrowed::from_ptr(py, self.names) }.cast::<PyTuple>()?.to_owned();
        let dict = PyDict::new(py);
        for (index, name) in names.iter().enumerate() {
            // SAFETY: as above.
            let value = unsafe { Borrowed::from_ptr(py, *self.values.add(self.positional_count() + index)) };
            dict.set_item(name, value)?;
        }
        Ok(Some(dict))
    }
}

impl<'py> Args<'_, 'py> {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Args::Packed(args, kwargs) => args.is_empty() && kwargs.is_none_or(|kwargs| kwargs.is_empty()),
            Args::Vector(vector) => vector.positional_count() == 0 && !vector.has_names(),
        }
    }

    /// Shows each of them to a function, which may end that with an error.
    pub(crate) fn each(
        self,
        py: Python<'py>,
        mut look: impl FnMut(&Bound<'py, PyAny>) -> PyResult<()>,
    ) -> PyResult<()> {
        match self {
            Args::Packed(args, kwargs) => {
                args.iter_borrowed().try_for_each(|value| look(&value))?;
                kwargs.map_or(Ok(()), |kwargs| kwargs.iter().try_for_each(|(_, value)| look(&value)))
            }
            Args::Vector(vector) => vector.all(py)?.try_for_each(|value| look(&value)),
        }
    }

    /// Calls a function that may run any code for any time.
    pub(crate) fn call(self, function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let hang = Hang;
        // Read in a way that hides the function from the optimizer, which would believe PyO3's declaration.
        // SAFETY: all of them are alive and borrowed for the call, and the thread is attached.
        let answer = unsafe {
            match self {
                Self::Packed(args, kwargs) => {
                    let kwargs = kwargs.map_or(null_mut(), |kwargs| kwargs.as_ptr());
                    let call = std::ptr::read_volatile(&raw const CALL_PACKED);
                    call(function.as_ptr(), args.as_ptr(), kwargs)
                }
                Self::Vector(Vector { values, count, names, .. }) => {
                    let call = std::ptr::read_volatile(&raw const CALL_VECTOR);
                    call(function.as_ptr(), values, count, names)
                }
            }
        };
        std::mem::forget(hang);
        // SAFETY: the call gives an owned reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(function.py(), answer) }
    }

    /// Calls a function that takes an object before these arguments.
    pub(crate) fn call_method(
        self,
        function: &Bound<'py, PyAny>,
        first: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Vector(vector) if vector.count & ffi::PY_VECTORCALL_ARGUMENTS_OFFSET != 0 => {
                let count = vector.positional_count() + 1;
                // SAFETY: the flag says that the place before the arguments may be used, if it is put back.
                unsafe {
                    let values = vector.values.sub(1).cast_mut();
                    let before = std::mem::replace(&mut *values, first.as_ptr());
                    let answer = Self::Vector(Vector { values, count, ..vector }).call(function);
                    *values = before;
                    answer
                }
            }
            Self::Packed(args, kwargs)
                if args.len() <= FEW && kwargs.is_none_or(|kwargs| kwargs.is_empty()) =>
            {
                Self::call_with_few(function, first, args)
            }
            _ => self.with_first(first)?.call_packed(function),
        }
    }

    /// Calls a function with an object and a few others. The frame of [`Args::call_method`] is to stay small, so this
    /// stands apart.
    #[inline(never)]
    fn call_with_few(
        function: &Bound<'py, PyAny>,
        first: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // The first place is for the one who is called, as the flag says.
        let mut values = [null_mut(); FEW + 2];
        values[1] = first.as_ptr();
        values[2..].iter_mut().zip(args.iter_borrowed()).for_each(|(place, value)| *place = value.as_ptr());
        let vector = Vector {
            // SAFETY: the array has more than one place.
            values: unsafe { values.as_mut_ptr().add(1) },
            count: (args.len() + 1) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            names: null_mut(),
            lives: std::marker::PhantomData,
        };
        // The tuple can't change, and keeps them alive.
        Args::Vector(vector).call(function)
    }

    /// These after another one. It stands apart, as calls nest, and are to take little of the stack.
    #[inline(never)]
    fn with_first(self, first: &Bound<'py, PyAny>) -> PyResult<Packed<'py>> {
        let py = first.py();
        let args = self.tuple(py)?;
        let mut all = Vec::with_capacity(args.len() + 1);
        all.push(first.clone());
        all.extend(args.iter());
        Ok(Packed { args: PyTuple::new(py, all)?, kwargs: self.dict(py)? })
    }

    /// The positional arguments in a tuple.
    pub(crate) fn tuple(self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match self {
            Self::Packed(args, _) => Ok(args.clone()),
            Self::Vector(vector) => vector.tuple(py),
        }
    }

    /// The arguments with a name in a dict, if there are any.
    pub(crate) fn dict(self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        match self {
            Self::Packed(_, kwargs) => Ok(kwargs.cloned()),
            Self::Vector(vector) => vector.dict(py),
        }
    }
}

struct Packed<'py> {
    args: Bound<'py, PyTuple>,
    kwargs: Option<Bound<'py, PyDict>>,
}

impl<'py> Packed<'py> {
    fn call_packed(&self, function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Args::Packed(&self.args, self.kwargs.as_ref()).call(function)
    }
}

/// Calls a function with what makes a tuple.
pub(crate) fn call_with<'py>(
    function: &Bound<'py, PyAny>,
    args: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error: Into<PyErr>>,
) -> PyResult<Bound<'py, PyAny>> {
    let args = args.into_pyobject(function.py()).map_err(Into::into)?;
    Args::Packed(&args, None).call(function)
}

/// Calls a function of a module of ours, or a method, that may run any code of the user.
pub(crate) fn call_attribute<'py>(
    object: &Bound<'py, PyAny>,
    name: &str,
    args: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error: Into<PyErr>>,
) -> PyResult<Bound<'py, PyAny>> {
    call_with(&object.getattr(name)?, args)
}

/// What came out of a coroutine.
pub(crate) enum Sent<'py> {
    Yielded(Bound<'py, PyAny>),
    Returned(Bound<'py, PyAny>),
}

/// Goes on with a coroutine where it waits for a value.
pub(crate) fn send_into<'py>(
    coroutine: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Sent<'py>> {
    let py = coroutine.py();
    let mut out = null_mut();
    let hang = Hang;
    // SAFETY: as for calls; `out` gets an owned reference, or null with an exception set.
    let (state, out) = unsafe {
        let send = std::ptr::read_volatile(&raw const SEND);
        let state = send(coroutine.as_ptr(), value.as_ptr(), &raw mut out);
        (state, Bound::from_owned_ptr_or_err(py, out))
    };
    std::mem::forget(hang);
    match state {
        ffi::PySendResult::PYGEN_NEXT => out.map(Sent::Yielded),
        _ => out.map(Sent::Returned),
    }
}

/// What a coroutine returned, from the exception that says so.
pub(crate) fn returned(py: Python<'_>, error: PyErr) -> PyResult<Sent<'_>> {
    if error.is_instance_of::<PyStopIteration>(py) {
        return error.value(py).getattr(pyo3::intern!(py, "value")).map(Sent::Returned);
    }
    Err(error)
}

/// A field of objects that Python calls without making a tuple of the arguments.
pub(crate) struct Entry(#[allow(dead_code, reason = "read by the interpreter")] ffi::vectorcallfunc);

impl Entry {
    /// The entry of a class.
    pub(crate) fn of<T: Callable>() -> Self {
        Self(enter::<T>)
    }
}

/// A class of objects with such a field.
pub(crate) trait Callable: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync {
    /// Where the field is.
    fn entry(&self) -> &Entry;
    /// The one of this class.
    fn once() -> &'static Once;
    /// What a call does.
    fn call<'py>(slf: &Bound<'py, Self>, args: Args<'_, 'py>) -> PyResult<Bound<'py, PyAny>>;
}

/// Makes an object, and tells the interpreter of the entry of its class.
pub(crate) fn make<T: Callable + Into<PyClassInitializer<T>>>(
    py: Python<'_>,
    value: T,
) -> PyResult<Bound<'_, T>> {
    let object = Bound::new(py, value)?;
    T::once().call_once(|| {
        let offset = std::ptr::from_ref(object.get().entry()) as usize - object.as_ptr() as usize;
        let class = object.as_any().get_type().as_type_ptr();
        // SAFETY: the class is ours and has no subclasses. Each object of it has, from its making on, a
        // function at this offset.
        unsafe {
            (*class).tp_vectorcall_offset = offset as ffi::Py_ssize_t;
            (*class).tp_flags |= ffi::Py_TPFLAGS_HAVE_VECTORCALL;
        }
    });
    Ok(object)
}

unsafe extern "C" fn enter<T: Callable>(
    callee: *mut PyObject,
    values: *const *mut PyObject,
    count: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    let answer = Python::try_attach(|py| {
        let called = guarded(|| {
            // SAFETY: the interpreter calls this with an object of the class whose entry this is.
            let callee = unsafe { Borrowed::from_ptr(py, callee).cast_unchecked::<T>() };
            let vector = Vector { values, count, names, lives: std::marker::PhantomData };
            T::call(&callee, Args::Vector(vector))
        });
        match called {
            Ok(answer) => answer.into_ptr(),
            Err(error) => {
                error.restore(py);
                null_mut()
            }
        }
    });
    answer.unwrap_or_else(|| {
        // SAFETY: the interpreter itself calls this, though it is about to end.
        let py = unsafe { Python::assume_attached() };
        PyRuntimeError::new_err("the interpreter is shutting down: actors can't be called any more")
            .restore(py);
        null_mut()
    })
}

/// Runs what the interpreter calls, which must not be unwound: a panic is an exception.
pub(crate) fn guarded<T>(run: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(panic) => {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(PanicException::new_err((what.unwrap_or_else(|| "a panic in goblins".to_owned()),)))
        }
    }
}
