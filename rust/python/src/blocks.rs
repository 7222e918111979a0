//! `with vat:` blocks.
//!
//! A block is one turn, and belongs to whom it was opened by: a thread, or a task of an event loop. Other tasks of that
//! loop run on the same thread. Should the owner wait in its block, they find the thread inside a vat in which they
//! have no business: the block is hidden from them (see [`crate::current`]), and they can neither enter its vat nor
//! leave it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use goblins_core::churn::Churn;
use goblins_core::fork::is_forked;
use goblins_core::ids::VatId;
use goblins_core::recording::Heading;
use goblins_core::session::Session;
use goblins_core::vat::Vat as KernelVat;
use pyo3::exceptions::PyGeneratorExit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use crate::asyncio;
use crate::attaching::attached;
use crate::current;
use crate::errors::{deadlock, log_unheard, no_turn_error};
use crate::host::PyHost;
use crate::interrupts::{again_if_interrupted, found};
use crate::promise::Promise;
use crate::runtime::check;

/// A `with vat:` block of this thread.
enum Block {
    /// It opened a turn.
    Outer { session: Session<PyHost>, owner: Option<Owner>, stay: Option<Stay> },
    /// It stands in a turn of the same vat, and is part of it. One that is not left in its turn is over with that.
    Inner { vat: VatId, turn: u64 },
}

/// The task that opened a block, or the event loop, if one of its callbacks did.
struct Owner(Py<PyWeakrefReference>);

/// Whether the task that opened a block has stayed in it. What its loop calls next, it calls when the task waits.
struct Stay {
    lapsed: Py<Lapsed>,
    /// To call it off.
    handle: Option<Py<PyAny>>,
}

/// What the loop calls.
#[pyclass(frozen, module = "goblins", name = "_Lapsed")]
#[derive(Default)]
struct Lapsed(AtomicBool);

#[pymethods]
impl Lapsed {
    fn __call__(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Stay {
    fn begin(py: Python<'_>) -> PyResult<Self> {
        let lapsed = Bound::new(py, Lapsed::default())?;
        let handle = match asyncio::running_loop(py)? {
            Some(home) => Some(home.call_method1(intern!(py, "call_soon"), (&lapsed,))?.unbind()),
            None => {
                py.import("goblins._asyncio")?.call_method1("call_soon_in_trio", (&lapsed,))?;
                None
            }
        };
        Ok(Self { lapsed: lapsed.unbind(), handle })
    }

    fn end(self, py: Python<'_>) -> PyResult<bool> {
        let lapsed = self.lapsed.get().0.load(Ordering::Relaxed);
        if let Some(handle) = self.handle
            && !lapsed
        {
            handle.call_method0(py, intern!(py, "cancel"))?;
        }
        Ok(lapsed)
    }
}

/// The blocks of a thread.
struct Blocks(RefCell<Vec<Block>>);

impl Drop for Blocks {
    fn drop(&mut self) {
        let open = self.0.take();
        if open.is_empty() {
            return;
        }
        let mut open = Some(open);
        attached(|py| leave_all(py, open.take().unwrap_or_default()));
        // Without the interpreter nothing can be undone any more, nor go.
        std::mem::forget(open);
    }
}

thread_local! {
    static BLOCKS: Blocks = const { Blocks(RefCell::new(Vec::new())) };
}

/// Whether blocks were left for the end of the process.
static LEFT_AT_EXIT: AtomicBool = AtomicBool::new(false);

/// How many blocks are open on this thread.
pub(crate) fn open() -> usize {
    BLOCKS.with(|blocks| blocks.0.borrow().len())
}

/// Undoes the blocks that are open on this thread, and leaves their vats: the process ends.
pub(crate) fn leave_at_exit(py: Python<'_>) {
    let open = BLOCKS.with(|blocks| blocks.0.take());
    if !open.is_empty() {
        LEFT_AT_EXIT.store(true, Ordering::Relaxed);
    }
    leave_all(py, open);
    current::guard_no_more();
}

/// The innermost first; each is undone.
fn leave_all(_py: Python<'_>, open: Vec<Block>) {
    open.into_iter().rev().for_each(drop);
}

/// In a forked child: no block is open there.
#[cfg(unix)]
pub(crate) fn leave_to_parent() {
    let open = BLOCKS.try_with(|blocks| blocks.0.take());
    std::mem::forget(open);
}

impl Owner {
    /// Who runs here, if this thread runs an event loop.
    fn here(py: Python<'_>) -> PyResult<Option<Self>> {
        let Some(task) = running(py)? else { return Ok(None) };
        Ok(Some(Self(PyWeakrefReference::new(&task)?.unbind())))
    }

    fn is_here(&self, py: Python<'_>) -> bool {
        match (self.0.bind(py).upgrade(), again_if_interrupted(py, || running(py))) {
            (Some(owner), Ok(Some(here))) => owner.is(&here),
            // Nobody else can be told apart from it.
            (_, Err(_)) => true,
            (None, _) | (_, Ok(None)) => false,
        }
    }

    /// Whether it will never go on.
    fn has_ended(&self, py: Python<'_>) -> bool {
        let Some(owner) = self.0.bind(py).upgrade() else { return true };
        let ended = py
            .import("goblins._asyncio")
            .and_then(|module| module.call_method1("has_ended", (owner,)))
            .and_then(|ended| ended.is_truthy());
        found(py, ended).unwrap_or(false)
    }

    fn name(&self, py: Python<'_>) -> String {
        let owner = self.0.bind(py).upgrade();
        owner.map_or_else(|| "a task that has gone".to_owned(), |owner| owner.to_string())
    }
}

/// The task that runs on this thread, or else the event loop that does.
fn running(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    if let Some(here) = asyncio::running(py)? {
        return Ok(Some(here));
    }
    if !asyncio::modules(py)?.contains(intern!(py, "trio"))? {
        return Ok(None);
    }
    let task = py.import("goblins._asyncio")?.call_method0("trio_task")?;
    Ok((!task.is_none()).then_some(task))
}

/// Whether this code has to do with a churn that this thread runs. Called while a task has a block open here.
pub(crate) fn is_ours(churn: &Rc<Churn<PyHost>>) -> bool {
    Python::try_attach(|py| {
        let owner = with_owner(churn, |owner| Owner(owner.0.clone_ref(py)));
        owner.is_none_or(|owner| owner.is_here(py))
    })
    .unwrap_or(true)
}

/// Looks at who owns the block of a churn, if a task does.
fn with_owner<T>(churn: &Rc<Churn<PyHost>>, look: impl FnOnce(&Owner) -> T) -> Option<T> {
    BLOCKS.with(|blocks| {
        let blocks = blocks.0.borrow();
        blocks
            .iter()
            .find_map(|block| match block {
                Block::Outer { session, owner: Some(owner), .. } if Rc::ptr_eq(session.churn(), churn) => {
                    Some(owner)
                }
                Block::Outer { .. } | Block::Inner { .. } => None,
            })
            .map(look)
    })
}

/// The error for one who must not enter a vat, since a block of another task is open on this thread.
pub(crate) fn of_another(py: Python<'_>, vat: &KernelVat<PyHost>, churn: &Rc<Churn<PyHost>>) -> PyErr {
    let owner = with_owner(churn, |owner| Owner(owner.0.clone_ref(py)));
    let owner = owner.map_or_else(|| "another task".to_owned(), |owner| owner.name(py));
    deadlock(format!(
        "vat {} can't be entered: a `with vat:` block of vat {} is open on this thread, and who opened it waits in it: \
         {owner}. A block is one turn, so await outside of it, or use `await vat.run_async(...)`",
        vat.title(),
        churn.vat().title(),
    ))
}

/// An error for one who would wait for what the block of another task wants to send: that leaves at the end of the
/// block, which waits itself.
pub(crate) fn check_wait(py: Python<'_>, promise: &Py<Promise>) -> PyResult<()> {
    let Some(churn) = current::occupied().filter(|churn| churn.in_turn() && churn.awaits(promise)) else {
        return Ok(());
    };
    let Some(owner) = with_owner(&churn, |owner| Owner(owner.0.clone_ref(py))) else { return Ok(()) };
    Err(deadlock(format!(
        "what settles this promise leaves vat {} at the end of a `with vat:` block, and who opened it waits in it: {}. A \
         block is one turn, so await outside of it, or use `await vat.run_async(...)`",
        churn.vat().title(),
        owner.name(py)
    )))
}

/// Undoes the blocks whose tasks have ended without leaving them.
pub(crate) fn sweep(py: Python<'_>) {
    while let Some(churn) = current::running()
        && let Some(owner) = with_owner(&churn, |owner| Owner(owner.0.clone_ref(py)))
        && owner.has_ended(py)
    {
        if !undo(&churn) {
            return;
        }
        let error =
            no_turn_error("a `with vat:` block was never left by the task that opened it, and is undone");
        log_unheard(py, &format!("vat {}: {}", churn.vat().name(), owner.name(py)), &error.into());
    }
}

/// Undoes the block of a churn that this thread runs.
fn undo(churn: &Rc<Churn<PyHost>>) -> bool {
    let block =
        take(|block| matches!(block, Block::Outer { session, .. } if Rc::ptr_eq(session.churn(), churn)));
    block.is_some()
}

/// Takes the innermost block that is meant. The caller drops it.
fn take(which: impl Fn(&Block) -> bool) -> Option<Block> {
    let block = BLOCKS.with(|blocks| {
        let mut blocks = blocks.0.borrow_mut();
        let index = blocks.iter().rposition(which)?;
        Some(blocks.remove(index))
    });
    if let Some(Block::Outer { owner: Some(_), .. }) = &block {
        current::guard_less();
    }
    block
}

/// Opens a block in a turn of the same vat.
pub(crate) fn enter_inner() {
    let Some(churn) = current::current() else { return };
    let block = Block::Inner { vat: churn.vat().id(), turn: churn.turn_number() };
    BLOCKS.with(|blocks| blocks.0.borrow_mut().push(block));
}

/// Opens a block outside of all turns.
pub(crate) fn enter(py: Python<'_>, vat: &Arc<KernelVat<PyHost>>) -> PyResult<()> {
    if let Some(churn) = current::occupied() {
        return Err(of_another(py, vat, &churn));
    }
    let owner = Owner::here(py)?;
    let stay = owner.is_some().then(|| Stay::begin(py)).transpose()?;
    let session = vat.enter(py)?;
    session.churn().begin_turn();
    if owner.is_some() {
        current::guard_more();
    }
    BLOCKS.with(|blocks| blocks.0.borrow_mut().push(Block::Outer { session, owner, stay }));
    Ok(())
}

/// Leaves a block; false: its error goes on.
pub(crate) fn leave(
    py: Python<'_>,
    vat: &Arc<KernelVat<PyHost>>,
    error: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let here = current::current().filter(|churn| churn.in_turn() && Arc::ptr_eq(churn.vat(), vat));
    let turn = here.as_ref().map(|churn| churn.turn_number());
    // A generator that is closed in a later turn, or elsewhere, leaves a block that is over.
    let closed = error.is_instance_of::<PyGeneratorExit>();
    if here.is_none() || closed {
        let over = take(
            |block| matches!(block, Block::Inner { vat: of, turn: at } if *of == vat.id() && turn != Some(*at)),
        );
        if over.is_some() {
            return Ok(false);
        }
    }
    let Some(churn) = here else {
        return leave_elsewhere(py, vat, error, closed);
    };
    let block = take(|block| match block {
        Block::Outer { session, .. } => Rc::ptr_eq(session.churn(), &churn),
        Block::Inner { vat: of, turn: at } => *of == vat.id() && turn == Some(*at),
    });
    drop(churn);
    let (session, stay) = match block {
        Some(Block::Outer { session, stay, .. }) => (session, stay),
        Some(Block::Inner { .. }) => return Ok(false),
        None => return Err(not_begun()),
    };
    let failed = !error.is_none();
    let result = match stay.map_or(Ok(false), |stay| stay.end(py)) {
        _ if failed => Err(PyErr::from_value(error.clone())),
        Ok(false) => Ok(()),
        Ok(true) => Err(no_turn_error(format!(
            "a `with vat:` block of vat {} is one turn, and its task has waited in it: it is undone. Await outside of it, \
             or use `await vat.run_async(...)`",
            vat.name()
        ))),
        Err(error) => Err(error),
    };
    let result = result.map_err(Into::into);
    let ended = session.churn().clone().end_turn(py, Heading::run(), result);
    let finished = session.finish(py);
    // The block's own error goes on by itself.
    if !failed {
        ended?;
    }
    Ok(finished.map(|()| false)?)
}

/// Leaves a block where this code is in none of that vat.
fn leave_elsewhere(
    py: Python<'_>,
    vat: &Arc<KernelVat<PyHost>>,
    error: &Bound<'_, PyAny>,
    closed: bool,
) -> PyResult<bool> {
    if (is_forked() && !error.is_none()) || LEFT_AT_EXIT.load(Ordering::Relaxed) {
        // The error of the block goes on by itself.
        return Ok(false);
    }
    check()?;
    let found = BLOCKS.with(|blocks| {
        blocks.0.borrow().iter().find_map(|block| match block {
            Block::Outer { session, owner: Some(owner), .. } if Arc::ptr_eq(session.churn().vat(), vat) => {
                Some((session.churn().clone(), Owner(owner.0.clone_ref(py))))
            }
            Block::Outer { .. } | Block::Inner { .. } => None,
        })
    });
    let Some((churn, owner)) = found else {
        return Err(not_begun());
    };
    if !closed || !owner.has_ended(py) {
        return Err(no_turn_error(format!(
            "this `with vat:` block of vat {} belongs to another task, which must leave it: {}",
            vat.name(),
            owner.name(py)
        )));
    }
    // Nobody else will leave it. In the midst of a collection of garbage it waits for the end of that.
    if current::running().is_some_and(|running| Rc::ptr_eq(&running, &churn)) {
        undo(&churn);
    }
    Ok(false)
}

fn not_begun() -> PyErr {
    no_turn_error(
        "`with vat:` ends where it did not begin: it must be left once, by the thread or the task that entered it",
    )
}
