//! `Map`, `List` and `Set`: what of them is in Rust. They are handles of hidden actors, called pages, whose states
//! are read and replaced without messages.

use std::rc::Rc;
use std::sync::Arc;

use goblins_core::churn::Churn;
use goblins_core::ids::Address;
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyFrozenSet, PyList, PySet, PyString, PyTuple};

use crate::behavior::{Behavior, Constructor, Source};
use crate::calls::{self, Args, Callable};
use crate::cbor::{self, Handle, NotPortable, Refs};
use crate::copies;
use crate::current::{check_entry, current, current_turn};
use crate::elsewhere::Elsewhere;
use crate::errors::{far_call, no_turn_error, store_corrupt};
use crate::host::PyHost;
use crate::names::Name;
use crate::page_journal;
use crate::promise::Promise;
use crate::refs::{self, Ref};

/// The parent of the collections: which one it is, and the page that leads to all others.
#[pyclass(subclass, frozen, weakref, module = "goblins", name = "_Collection")]
pub(crate) struct Collection {
    root: Py<Ref>,
    kind: u8,
}

#[pymethods]
impl Collection {
    #[new]
    fn new(root: Py<Ref>, kind: u8) -> Self {
        Self { root, kind }
    }

    #[getter]
    fn _root(&self, py: Python<'_>) -> Py<Ref> {
        self.root.clone_ref(py)
    }

    /// Whether this is a turn of its vat; False outside of turns, an error in a turn of another vat.
    fn _is_near(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(near(slf)?.is_some())
    }

    /// As `_is_near`; in a turn of its vat an operation that changes pages begins, which `_page_done` or `_page_back`
    /// must end: with what this gives. None outside of turns.
    fn _begin(slf: &Bound<'_, Self>) -> PyResult<Option<usize>> {
        Ok(near(slf)?.map(|churn| page_journal::begin(&churn)))
    }

    /// Calls a function in a turn of its own, outside of turns.
    #[pyo3(signature = (function, /, *args, **kwargs))]
    fn _run<'py>(
        slf: &Bound<'py, Self>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let vat = slf.get().root.get().cell.vat();
        check_entry(py, vat)?;
        if let Some(elsewhere) = Elsewhere::of(py, vat)? {
            return elsewhere.call_method(slf, "_run", function, args, kwargs);
        }
        Ok(vat.run(py, |_| Ok(Args::Packed(args, kwargs).call(function)?))?)
    }

    fn __reduce_ex__(slf: &Bound<'_, Self>, _protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let kind = slf.get_type().name()?;
        Err(PyTypeError::new_err(format!(
            "a {kind} can't be pickled, since its pages are actors of a vat: pickle a dict, list or set of what is in it"
        )))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.root)
    }
}

/// The turn that this is, if it is one of the collection's vat; None outside of turns, an error in a turn of another
/// vat.
fn near(slf: &Bound<'_, Collection>) -> PyResult<Option<Rc<Churn<PyHost>>>> {
    let vat = slf.get().root.get().cell.vat();
    match current() {
        None => Ok(None),
        Some(churn) if !churn.in_turn() => Err(no_turn_error(format!(
            "a {} can't be used in a finalizer that runs between two turns",
            slf.get_type().name()?
        ))),
        Some(churn) if Arc::ptr_eq(churn.vat(), vat) => Ok(Some(churn)),
        Some(churn) => Err(far_call(format!(
            "this {} is in vat {}, and this is a turn of vat {}: send a message to an actor there",
            slf.get_type().name()?,
            vat.title(),
            churn.vat().title()
        ))),
    }
}

impl Collection {
    /// What of it is stored.
    pub(crate) fn parts(&self) -> (u8, &Py<Ref>) {
        (self.kind, &self.root)
    }
}

/// What the Python part has told.
struct Registered {
    make: Py<PyAny>,
    known: Py<PyDict>,
}

static REGISTERED: PyOnceLock<Registered> = PyOnceLock::new();

/// Tells how to make a collection of its kind and its root, and the constructors of the library, by label.
#[pyfunction]
pub(crate) fn _register_collections(py: Python<'_>, make: Py<PyAny>, known: Py<PyDict>) {
    let _ = REGISTERED.set(py, Registered { make, known });
}

/// The constructors of the library, by label: pages and others. Each environment has them.
pub(crate) fn library_labels(py: Python<'_>) -> Option<&Bound<'_, PyDict>> {
    Some(REGISTERED.get(py)?.known.bind(py))
}

/// Whether a label is one of the library.
pub(crate) fn is_of_library(label: &str) -> bool {
    label.starts_with("goblins.")
}

/// The collection of a kind with this root; there is one object for each that is in memory.
pub(crate) fn collection<'py>(kind: u8, root: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    match REGISTERED.get(root.py()) {
        Some(registered) => calls::call_with(registered.make.bind(root.py()), (kind, root)).map(Some),
        None => Ok(None),
    }
}

/// The behavior of a page; of this kind, if one is given.
fn behavior<'py>(
    churn: &Rc<Churn<PyHost>>,
    page: &Bound<'py, Ref>,
    kind: Option<&Bound<'py, Constructor>>,
) -> PyResult<Bound<'py, Behavior>> {
    let py = page.py();
    let found = churn.behavior(py, page.as_unbound())?.into_bound(py);
    match found.cast_into_exact::<Behavior>() {
        Ok(found) if kind.is_none_or(|kind| found.get().source.constructor.is(kind)) => Ok(found),
        _ => Err(damaged(page, "a collection leads to it, and it is another kind of page, or none")),
    }
}

fn damaged(page: &Bound<'_, Ref>, reason: &str) -> PyErr {
    let this = page.get();
    store_corrupt(format!(
        "slot {} of vat {} is damaged: {reason}; restore the store from a copy",
        this.cell.slot(),
        this.cell.vat().name()
    ))
}

/// What is raised where a page is not what it should be.
#[pyfunction]
pub(crate) fn _page_damaged(page: &Bound<'_, Ref>, reason: &str) -> Py<PyAny> {
    damaged(page, reason).into_value(page.py()).into_any()
}

/// How many pages the vat of a page can have at most.
#[pyfunction]
pub(crate) fn _page_most(page: &Bound<'_, Ref>) -> PyResult<u64> {
    Ok(page_turn(page)?.slots_used())
}

fn page_turn(page: &Bound<'_, Ref>) -> PyResult<Rc<Churn<PyHost>>> {
    let churn = current_turn("a Map, a List or a Set")?;
    if !churn.is_near(page.as_unbound()) {
        let vat = page.get().cell.vat().title();
        return Err(far_call(format!("a page of a collection of vat {vat} in a turn of another vat")));
    }
    Ok(churn)
}

/// The state of a page of a kind: what its constructor got. The first item stands for `bcom`.
#[pyfunction]
#[pyo3(signature = (page, kind=None, /))]
pub(crate) fn _page<'py>(
    page: &Bound<'py, Ref>,
    kind: Option<&Bound<'py, Constructor>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let behavior = behavior(&page_turn(page)?, page, kind)?;
    Ok(behavior.get().source.args.bind(page.py()).clone())
}

/// The way to a leaf of a tree of pages: its nodes, the index of the child in each, the leaf, and what is left of the
/// number. See `goblins._tree`.
type Way<'py> = (Vec<Bound<'py, Ref>>, Vec<usize>, Bound<'py, Ref>, u64);

/// Finds the leaf that a number belongs to, by way of nodes of this kind.
#[pyfunction]
#[pyo3(signature = (node, top, levels, number, relative, /))]
pub(crate) fn _page_find<'py>(
    node: &Bound<'py, Constructor>,
    top: Bound<'py, Ref>,
    levels: usize,
    mut number: u64,
    relative: bool,
) -> PyResult<Way<'py>> {
    let churn = page_turn(&top)?;
    let py = top.py();
    let (mut nodes, mut indexes, mut page) = (Vec::new(), Vec::new(), top);
    for _ in 0..levels {
        let behavior = behavior(&churn, &page, Some(node))?;
        let state = behavior.get().source.args.bind(py);
        let (starts, children) = (state.get_item(1)?, state.get_item(2)?);
        let (starts, children) = (starts.cast::<PyList>()?, children.cast::<PyList>()?);
        let (mut low, mut high) = (0, starts.len());
        while low < high {
            let middle = (low + high) / 2;
            if starts.get_item(middle)?.extract::<u64>()? <= number {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let index = low.saturating_sub(1);
        let child = children.get_item(index)?.cast_into_exact::<Ref>()?;
        if relative {
            number = number.saturating_sub(starts.get_item(index)?.extract::<u64>()?);
        }
        nodes.push(std::mem::replace(&mut page, child));
        indexes.push(index);
    }
    Ok((nodes, indexes, page, number))
}

/// Gives a page another state.
#[pyfunction]
#[pyo3(signature = (page, /, *state))]
pub(crate) fn _page_become(page: &Bound<'_, Ref>, state: &Bound<'_, PyTuple>) -> PyResult<()> {
    let py = page.py();
    let churn = page_turn(page)?;
    let now = behavior(&churn, page, None)?;
    let new = now.get().with_args(py, state_of(state)?);
    let new = Bound::new(py, new)?.into_any().unbind();
    let now = now.into_any().unbind();
    refs::change(&churn, page, &now, None, &new)?;
    page_journal::note(page, now);
    Ok(())
}

/// Makes a page in the vat whose turn this is.
#[pyfunction]
#[pyo3(signature = (constructor, /, *state))]
pub(crate) fn _page_spawn<'py>(
    constructor: &Bound<'py, Constructor>,
    state: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, Ref>> {
    let py = constructor.py();
    let churn = current_turn("a new Map, List or Set")?;
    let args = state_of(state)?;
    let made = <Constructor as Callable>::call(constructor, Args::Packed(args.bind(py), None))?;
    let name = Name { text: constructor.get().name.clone_ref(py), given: false };
    let page = Ref::live(churn.vat().clone(), churn.new_slot(), made.unbind(), name);
    let page = calls::make(py, page)?;
    churn.spawned(py, page.as_unbound());
    Ok(page)
}

fn state_of(state: &Bound<'_, PyTuple>) -> PyResult<Py<PyTuple>> {
    let py = state.py();
    let mut all = Vec::with_capacity(state.len() + 1);
    all.push(py.None().into_bound(py));
    all.extend(state.iter());
    Ok(PyTuple::new(py, all)?.unbind())
}

impl Behavior {
    /// What the same constructor would make of other arguments, if its code does not depend on them.
    fn with_args(&self, py: Python<'_>, args: Py<PyTuple>) -> Self {
        let constructor = self.source.constructor.clone_ref(py);
        Self::new(self.code.clone_ref(py), Source { constructor, args, kwargs: None })
    }
}

/// A value without anything that others could change: lists, dicts, sets and bytearrays are copied.
#[pyfunction]
pub(crate) fn _copied<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    copies::deep_copy(value)
}

/// Where `_weight` stops to count.
const ENOUGH: usize = 1 << 20;

/// About how many bytes a value takes in a record.
#[pyfunction]
pub(crate) fn _weight(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    let mut todo = vec![value.clone()];
    let mut sum = 0;
    while let Some(value) = todo.pop() {
        sum += 4;
        if let Ok(text) = value.cast_exact::<PyString>() {
            sum += text.len()?;
        } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            sum += bytes.as_bytes().len();
        } else if let Ok(bytes) = value.cast_exact::<PyByteArray>() {
            sum += bytes.len();
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            todo.extend(list.iter());
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            todo.extend(tuple.iter());
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            todo.extend(dict.iter().flat_map(|(key, value)| [key, value]));
        } else if let Ok(set) = value.cast_exact::<PySet>() {
            todo.extend(set.iter());
        } else if let Ok(set) = value.cast_exact::<PyFrozenSet>() {
            todo.extend(set.iter());
        } else {
            sum += 4;
        }
        if sum >= ENOUGH {
            // A container that contains itself ends here as well.
            return Ok(ENOUGH);
        }
    }
    Ok(sum)
}

/// References in keys: they are told apart by their slots, or their addresses, which never change.
#[derive(Default)]
struct Slots {
    /// A promise that has no such number is among them.
    has_promise: bool,
}

/// A number for an address, the same in each process.
fn number_of(address: Address) -> u64 {
    let id = u128::from_be_bytes(address.vat.0);
    (id >> 64) as u64 ^ id as u64 ^ address.slot.0
}

impl Refs for Slots {
    fn handle(&mut self, value: &Bound<'_, PyAny>) -> Result<Option<Handle>, NotPortable> {
        if let Ok(actor) = value.cast_exact::<Ref>() {
            let cell = &actor.get().cell;
            let near = current().is_none_or(|churn| churn.is_near(actor.as_unbound()));
            let address = if near { None } else { cell.vat().address_of(cell.slot()) };
            return Ok(Some(match address {
                Some(address) => Handle::Far(number_of(address)),
                None => Handle::Near(cell.slot().0),
            }));
        }
        match value.cast_exact::<Promise>().map(|promise| promise.get().cell.address()) {
            Ok(Some(address)) => Ok(Some(Handle::Far(number_of(address)))),
            Ok(None) => {
                self.has_promise = true;
                Err(NotPortable::new("a promise"))
            }
            Err(_) => Ok(None),
        }
    }
}

/// The bytes of a key that are the same in each process; None if it has none, and so can't be stored. A promise has
/// none, and can be stored: an error.
#[pyfunction]
pub(crate) fn _key_bytes<'py>(key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let (mut bytes, mut slots) = (Vec::new(), Slots::default());
    match cbor::encode(key, &mut slots, &mut bytes) {
        Ok(()) => Ok(Some(PyBytes::new(key.py(), &bytes))),
        Err(_) if slots.has_promise => Err(PyTypeError::new_err(
            "a promise can't be a key of a Map or a member of a Set, since nothing of it stays the same when it is \
             stored: use a dict or a set, or a key of your own",
        )),
        Err(error) => match error.into_reason() {
            Ok(_) => Ok(None),
            Err(error) => Err(error.into_error(|reason, _| PyTypeError::new_err(reason.to_owned()))),
        },
    }
}
