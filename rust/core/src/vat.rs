//! Vats: an event loop with its actors, run by whoever brings work.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::churn::{Churn, Work};
use crate::claim::Claim;
use crate::durability::{Ticket, Waited};
use crate::error::KernelError;
use crate::fork::is_forked;
use crate::host::Host;
use crate::ids::{PermanentId, Slot, VatId};
use crate::job::{Job, Task};
use crate::log::{Cause, EventKind, Log};
use crate::mailbox::{Closed, Entry, Mailbox, Posted};
use crate::naming::Named;
use crate::partial;
use crate::persistence::{Persistence, Saving};
use crate::pool::Runtime;
use crate::promise::{Seen, StoreId};
use crate::record::{Shape, VatRecord};
use crate::recording::Heading;
use crate::release::{Outputs, post, release, settling};
use crate::scheduling::{InboxLimit, Scheduling};
use crate::session::Session;
use crate::storage::SLICE;
use crate::store::StoreError;
use crate::stretch::Stretch;
use crate::survey::{Fit, Unfit};
use crate::watch::Pace;

/// How many churns a worker runs in one vat before the others get their turn.
const CHURNS_AT_A_TIME: usize = 64;

/// A vat. Actors hold it; it holds no actor.
pub struct Vat<H: Host> {
    id: VatId,
    /// Known from its opening on, or its founding.
    permanent: OnceLock<PermanentId>,
    name: String,
    runtime: Arc<Runtime<H>>,
    mailbox: Mailbox<Job<H>, Box<Work<H>>>,
    persistence: Option<Persistence<H>>,
    poison: OnceLock<Arc<StoreError>>,
    pub(crate) scheduling: OnceLock<Scheduling<H::Loop>>,
    pub(crate) inbox_limit: InboxLimit,
    /// It waits for steps that nobody can make any more.
    stepless: AtomicBool,
    /// No event loop runs its messages.
    pub(crate) only_workers: AtomicBool,
    pace: Pace,
    log: Log<H>,
    /// What is left of a closed vat that lived in memory only, for opening it again.
    rest: Mutex<Option<Box<Work<H>>>>,
}

/// How to make a vat.
#[derive(Debug, Default, Clone)]
pub struct VatOptions {
    /// Its name; without one it is called after its number.
    pub name: Option<String>,
    /// Room for this many events in the log; `None`: the log is off, until it is switched on.
    pub log_capacity: Option<usize>,
}

/// A vat opened from a store.
pub struct Opened<H: Host> {
    /// The vat.
    pub vat: Arc<Vat<H>>,
    /// What stood in the store, or `None` if it was empty: then [`Vat::found`] must follow.
    pub record: Option<VatRecord>,
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

/// Why a vat could not be opened from a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store failed.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// A label is not in the environment.
    #[error(
        "the store {store} has {} actor(s) with the label {:?} (slot {} for one), which is not in the environment; \
         add its constructor to the PersistenceEnv (nothing was changed)", .unfit.count, .unfit.label, .unfit.slot
    )]
    UnknownLabel {
        /// The store, as its user named it.
        store: String,
        /// The label.
        unfit: Unfit,
    },
    /// Actors are stored in a way that their constructor can't deal with.
    #[error(
        "the store {store} has {} actor(s) with the label {:?} (slot {} for one) that can't be made: {reason} (nothing \
         was changed)", .unfit.count, .unfit.label, .unfit.slot
    )]
    Misfit {
        /// The store, as its user named it.
        store: String,
        /// The label.
        unfit: Unfit,
        /// Why.
        reason: String,
    },
}

impl<H: Host> Drop for Vat<H> {
    fn drop(&mut self) {
        self.report_if_lost();
    }
}

impl<H: Host> Vat<H> {
    /// A vat that lives in memory only.
    pub fn new(runtime: &Arc<Runtime<H>>, options: VatOptions) -> Arc<Self> {
        Self::make(runtime, options, None, Work::new(Slot(0), None))
    }

    fn make(
        runtime: &Arc<Runtime<H>>,
        options: VatOptions,
        persistence: Option<Persistence<H>>,
        work: Work<H>,
    ) -> Arc<Self> {
        let id = runtime.next_vat_id();
        let vat = Arc::new(Self {
            id,
            permanent: OnceLock::new(),
            name: options.name.unwrap_or_else(|| format!("vat-{id}")),
            runtime: runtime.clone(),
            mailbox: Mailbox::new(Box::new(work)),
            persistence,
            poison: OnceLock::new(),
            scheduling: OnceLock::new(),
            inbox_limit: InboxLimit::none(),
            stepless: AtomicBool::new(false),
            only_workers: AtomicBool::new(false),
            pace: Pace::new(),
            log: Log::new(options.log_capacity),
            rest: Mutex::new(None),
        });
        runtime.watch().add(&vat);
        vat
    }

    /// Opens the vat that lives in a part of a store. Its actors are made when they are first used. Reads
    /// a fixed number of records, however many actors there are (guarantee G7). To be called detached.
    pub fn open(
        runtime: &Arc<Runtime<H>>,
        options: VatOptions,
        claim: Claim<H>,
        env: H::Env,
        fits: impl Fn(&Shape) -> Fit,
    ) -> Result<Opened<H>, OpenError> {
        let (record, next_slot) = claim.read_whole()?;
        let shapes = claim.read_shapes()?;
        if let Some(mut unfit) = claim.find_unfit(&shapes, &[], fits)?.into_iter().next() {
            let store = claim.storage().name();
            return Err(match unfit.reason.take() {
                None => OpenError::UnknownLabel { store, unfit },
                Some(reason) => OpenError::Misfit { store, unfit, reason },
            });
        }
        let storage = claim.storage().clone();
        let roots = record.as_ref().map(|record| record.roots.clone());
        let saving = Saving::new(shapes, next_slot, roots);
        let persistence = Persistence::new(claim, env);
        let vat = Self::make(runtime, options, Some(persistence), Work::new(next_slot, Some(saving)));
        if let Some(record) = &record {
            vat.permanent.get_or_init(|| PermanentId(record.id));
        }
        if let Some(persistence) = vat.persistence() {
            persistence.claim.set_named(Named::new(&vat, &storage));
            storage.adopt(persistence.claim.part(), &vat);
        }
        Ok(Opened { vat, record })
    }

    /// Its number in this process.
    pub fn id(&self) -> VatId {
        self.id
    }

    /// The id that it keeps over restarts; `None` without a store, and before it is founded (PV-12).
    pub fn permanent_id(&self) -> Option<PermanentId> {
        self.permanent.get().copied()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its part of a store, if it is persistent.
    pub fn persistence(&self) -> Option<&Persistence<H>> {
        self.persistence.as_ref()
    }

    /// What the store calls an actor, for messages about one that is not in memory; `None` if it can't be
    /// read. To be called detached.
    pub fn stored_title(&self, slot: Slot) -> Option<String> {
        self.persistence.as_ref()?.claim.read_title(slot).ok().flatten()
    }

    /// The label that an actor is stored under, as far as the store can tell.
    pub fn stored_label(&self, slot: Slot) -> Option<String> {
        self.persistence.as_ref()?.claim.read_label(slot).ok().flatten()
    }

    pub(crate) fn store_id(&self) -> Option<StoreId> {
        self.persistence.as_ref().map(|persistence| persistence.claim.storage().id())
    }

    pub(crate) fn mailbox(&self) -> &Mailbox<Job<H>, Box<Work<H>>> {
        &self.mailbox
    }

    pub(crate) fn closed_error(&self) -> KernelError {
        if is_forked() {
            return KernelError::Forked;
        }
        match self.poison.get() {
            Some(_) => self.poisoned_error(),
            None => KernelError::VatClosed { vat: self.title().into_owned() },
        }
    }

    pub(crate) fn poisoned_error(&self) -> KernelError {
        if is_forked() {
            return KernelError::Forked;
        }
        match self.failure() {
            Some(cause) => KernelError::Poisoned { vat: self.title().into_owned(), cause },
            None => KernelError::VatClosed { vat: self.title().into_owned() },
        }
    }

    pub(crate) fn failure(&self) -> Option<Arc<StoreError>> {
        if let Some(error) = self.poison.get() {
            return Some(error.clone());
        }
        let storage = self.persistence.as_ref()?.claim.storage();
        storage.durability().failure()
    }

    /// Stops the vat for good: what is in memory can't be trusted (guarantee G9).
    pub(crate) fn poison(&self, error: Arc<StoreError>) -> KernelError {
        let cause = self.poison.get_or_init(|| error).clone();
        KernelError::Poisoned { vat: self.title().into_owned(), cause }
    }

    /// Its event log.
    pub fn log(&self) -> &Log<H> {
        &self.log
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(crate) fn runtime(&self) -> &Arc<Runtime<H>> {
        &self.runtime
    }

    /// Notes that a stored actor died in memory. May be called from any thread.
    pub fn actor_dropped(&self, slot: Slot) {
        if let Some(persistence) = &self.persistence {
            persistence.dropped.lock().push(slot);
        }
    }

    /// Runs `body` as the first turn of a churn, on this thread; returns when what it did is durable. Work
    /// that came before is done first.
    pub fn run<T>(
        self: &Arc<Self>,
        cx: H::Cx<'_>,
        body: impl FnOnce(&Rc<Churn<H>>) -> Result<T, H::Error>,
    ) -> Result<T, H::Error> {
        self.run_as(cx, Heading::run(), body)
    }

    /// As [`Vat::run`], for a call of one actor.
    pub fn call<T>(
        self: &Arc<Self>,
        cx: H::Cx<'_>,
        actor: &H::Actor,
        method: Option<&H::Name>,
        body: impl FnOnce(&Rc<Churn<H>>) -> Result<T, H::Error>,
    ) -> Result<T, H::Error> {
        let heading = Heading { kind: EventKind::Run, cause: Cause::default(), actor: Some(actor), method };
        self.run_as(cx, heading, body)
    }

    fn run_as<T>(
        self: &Arc<Self>,
        cx: H::Cx<'_>,
        heading: Heading<'_, H>,
        body: impl FnOnce(&Rc<Churn<H>>) -> Result<T, H::Error>,
    ) -> Result<T, H::Error> {
        let session = self.enter(cx)?;
        let churn = session.churn().clone();
        let result = churn.turn(cx, heading, || body(&churn));
        drop(churn);
        session.finish(cx)?;
        result
    }

    /// Enters the vat, waiting while somebody else is inside, and does the work that came before.
    pub fn enter(self: &Arc<Self>, cx: H::Cx<'_>) -> Result<Session<H>, H::Error> {
        Self::refuse_forked(cx)?;
        let mut entry = self.mailbox.try_enter();
        loop {
            match entry {
                Entry::Entered(work) => {
                    let session = Session::begin(self.clone(), work);
                    return session.catch_up(cx);
                }
                Entry::Closed => return Err(H::error(cx, self.closed_error())),
                Entry::Busy => {
                    H::interrupted(cx)?;
                    entry = H::detached(cx, || self.mailbox.enter(SLICE));
                }
            }
        }
    }

    /// An error in a process that was forked from that of the vat.
    fn refuse_forked(cx: H::Cx<'_>) -> Result<(), H::Error> {
        if is_forked() { Err(H::error(cx, KernelError::Forked)) } else { Ok(()) }
    }

    /// Runs the messages that wait, as whoever [`Scheduling`] names: called once for each time it is told to.
    ///
    /// The error is an interrupt that came up meanwhile.
    pub fn work(self: &Arc<Self>, cx: H::Cx<'_>) -> Result<(), H::Error> {
        if is_forked() {
            return Ok(());
        }
        match self.mailbox.enter_scheduled() {
            Some(work) => self.work_on(cx, work),
            None => Ok(()),
        }
    }

    fn work_on(self: &Arc<Self>, cx: H::Cx<'_>, work: Box<Work<H>>) -> Result<(), H::Error> {
        let session = Session::begin(self.clone(), work);
        session.do_jobs(cx, CHURNS_AT_A_TIME, Stretch::of_queue(self));
        let interrupt = session.churn().take_interrupt();
        session.leave();
        interrupt
    }

    /// Gives the loop back, and sees to it that what came meanwhile is done.
    pub(crate) fn leave(self: &Arc<Self>, work: Box<Work<H>>) {
        self.leave_to(work, false);
    }

    /// As [`Vat::leave`]; what is for its senders may be left to the event loop of this thread.
    pub(crate) fn leave_to(self: &Arc<Self>, work: Box<Work<H>>, sender: bool) {
        self.pace.left();
        match self.mailbox.leave_to(work, sender) {
            Posted::Schedule => self.schedule(),
            Posted::Entrust => self.entrust(),
            Posted::Accepted => {}
        }
    }

    /// Waits until the vat has nothing left to do, doing it itself where nobody else does.
    pub fn drain(self: &Arc<Self>, cx: H::Cx<'_>, timeout: Option<Duration>) -> Result<(), H::Error> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let session = self.enter_before(cx, deadline)?;
            let done = session.do_jobs(cx, CHURNS_AT_A_TIME, Stretch::of_queue(self));
            let interrupt = session.churn().take_interrupt();
            if done.is_none() {
                session.leave();
                return Err(H::error(cx, self.poisoned_error()));
            }
            session.leave_durable(cx)?;
            interrupt?;
            if self.mailbox.backlog() == 0 {
                return Ok(());
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(H::error(cx, KernelError::TimedOut { vat: self.name.clone() }));
            }
            H::interrupted(cx)?;
        }
    }

    fn enter_before(
        self: &Arc<Self>,
        cx: H::Cx<'_>,
        deadline: Option<Instant>,
    ) -> Result<Session<H>, H::Error> {
        Self::refuse_forked(cx)?;
        loop {
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
            match H::detached(cx, || self.mailbox.enter(left.min(SLICE))) {
                Entry::Entered(work) => return Ok(Session::begin(self.clone(), work)),
                Entry::Closed => return Err(H::error(cx, self.closed_error())),
                Entry::Busy if left.is_zero() => {
                    return Err(H::error(cx, KernelError::TimedOut { vat: self.name.clone() }));
                }
                Entry::Busy => H::interrupted(cx)?,
            }
        }
    }

    /// Does work that waits for this vat, if nobody else does. For one who waits for its result.
    ///
    /// The error is an interrupt that came up meanwhile.
    pub fn help(self: &Arc<Self>, cx: H::Cx<'_>) -> Result<(), H::Error> {
        if is_forked() || self.mailbox.backlog() == 0 || !matches!(self.scheduling(), Scheduling::Pool) {
            return Ok(());
        }
        match self.mailbox.try_enter() {
            Entry::Entered(work) => self.work_on(cx, work),
            Entry::Busy | Entry::Closed => Ok(()),
        }
    }

    /// Closes the vat: the turn that runs is finished, what waits is broken. A second call does nothing.
    pub fn close(self: &Arc<Self>, cx: H::Cx<'_>) -> Result<(), H::Error> {
        self.close_before(cx, None)
    }

    /// As [`Vat::close`], but a turn that goes on beyond the deadline is left to itself: an error.
    pub(crate) fn close_before(
        self: &Arc<Self>,
        cx: H::Cx<'_>,
        deadline: Option<Instant>,
    ) -> Result<(), H::Error> {
        Self::refuse_forked(cx)?;
        loop {
            match H::detached(cx, || self.mailbox.close(SLICE)) {
                Some(closed) => {
                    self.put_away(cx, closed);
                    let Some(persistence) = &self.persistence else {
                        return Ok(());
                    };
                    let durability = persistence.claim.storage().durability();
                    if durability.syncs() && durability.failure().is_none() {
                        return self.wait_durable(cx, durability.last());
                    }
                    return Ok(());
                }
                None if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                    return Err(H::error(cx, KernelError::TimedOut { vat: self.name.clone() }));
                }
                None => H::interrupted(cx)?,
            }
        }
    }

    /// Breaks what waits in a closed vat, and gives its part of the store back.
    fn put_away(self: &Arc<Self>, cx: H::Cx<'_>, closed: Closed<Job<H>, Box<Work<H>>>) {
        self.refuse_all(cx, closed.jobs);
        if let Some(mut work) = closed.idle {
            self.report_unsaved(cx, &work);
            let awaited = std::mem::take(&mut work.awaited);
            self.leave_lines(cx, awaited, &self.closed_error());
            if self.persistence.is_none() {
                *self.rest.lock() = Some(work);
            }
        }
        if let Some(persistence) = &self.persistence {
            self.give_up_asking(cx);
            persistence.claim.release();
            // No actor will be made any more, and the constructors may well refer to this vat.
            let env = H::no_env(cx).map(|env| persistence.exchange_env(env));
            drop(env);
        }
    }

    /// Nobody can call [`Vat::step`] any more: what waits for it, and what is still to come, is refused. Calls from
    /// outside go on.
    pub fn give_up_steps(self: &Arc<Self>, cx: H::Cx<'_>) {
        if self.is_manual() {
            self.stepless.store(true, Ordering::Relaxed);
            self.refuse_steps(cx);
        }
    }

    /// Shows what waits for a step, which goes with who could make one: for the host's garbage collector. `look` must
    /// call nobody.
    pub fn visit_steps<E>(&self, mut look: impl FnMut(&Task<H>) -> Result<(), E>) -> Result<(), E> {
        if !self.is_manual() {
            return Ok(());
        }
        self.mailbox.visit(|job| job.visit(&mut look))
    }

    /// Whether messages can be left to somebody.
    pub(crate) fn is_stepless(&self) -> bool {
        self.stepless.load(Ordering::Relaxed)
    }

    /// Refuses what waits for a step.
    pub(crate) fn refuse_steps(self: &Arc<Self>, cx: H::Cx<'_>) {
        // Who is inside has not come for the messages; those wait until the next one comes.
        let Entry::Entered(work) = self.mailbox.try_enter() else {
            return;
        };
        let jobs: Vec<_> = std::iter::from_fn(|| self.mailbox.next_job()).map(|(job, _)| job).collect();
        self.leave(work);
        let why = KernelError::NoSteps { vat: self.name.clone() };
        settling(cx, |next| jobs.into_iter().for_each(|job| job.refuse(cx, self, why.clone(), next)));
    }

    /// Closes the vat without waiting for the disk: the event loop that ran it is gone, so nobody ever will.
    pub fn forsake(self: &Arc<Self>, cx: H::Cx<'_>) {
        if let Some(closed) = self.mailbox.close(Duration::ZERO) {
            return self.put_away(cx, closed);
        }
        // Somebody is inside still. To wait for him is for another thread: this one may be in a turn.
        let vat = self.clone();
        let thread = std::thread::Builder::new().name("goblins-close".to_owned());
        // Without a thread the rest is left to whoever closes the vat.
        drop(thread.spawn(move || {
            H::attached(|cx| {
                if let Err(error) = vat.close(cx) {
                    H::report(cx, &vat, "it could not be closed when its event loop was", &error);
                }
            });
        }));
    }

    /// Opens a closed vat that lives in memory only: its actors are as they were. A vat with a store is opened
    /// from that again.
    pub fn reopen(&self) -> Result<(), KernelError> {
        if self.persistence.is_some() {
            return Err(KernelError::NotReopened { vat: self.name.clone() });
        }
        let rest = self.rest.lock().take();
        if let Some(work) = rest {
            // It is closed: only the one who closed it has left the loop here.
            let back = self.mailbox.reopen(work);
            drop(back);
        }
        Ok(())
    }

    pub(crate) fn refuse_all(self: &Arc<Self>, cx: H::Cx<'_>, jobs: impl IntoIterator<Item = Job<H>>) {
        settling(cx, |next| jobs.into_iter().for_each(|job| job.refuse(cx, self, self.closed_error(), next)));
    }

    /// Whether it is closed, or about to be.
    pub fn is_closed(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// Whether it is closed, and nobody is inside.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_closed() && self.mailbox.is_quiet()
    }

    pub(crate) fn wait_durable(&self, cx: H::Cx<'_>, ticket: Ticket) -> Result<(), H::Error> {
        let Some(persistence) = &self.persistence else {
            return Ok(());
        };
        let storage = persistence.claim.storage();
        let waited = loop {
            match H::detached(cx, || storage.durability().wait(ticket, SLICE)) {
                Ok(Waited::Durable) => break Ok(()),
                Ok(Waited::NotYet) => H::interrupted(cx)?,
                Err(error) => break Err(H::error(cx, self.poison(error))),
            }
        };
        storage.flush(cx);
        waited
    }

    /// Lets out what a churn has made, to each as early as he may see it (guarantee G2).
    pub(crate) fn release(self: &Arc<Self>, cx: H::Cx<'_>, outputs: Outputs<H>) {
        let storage = match &self.persistence {
            Some(persistence) if persistence.claim.storage().durability().syncs() => {
                persistence.claim.storage()
            }
            _ => return outputs.emit(cx),
        };
        let here = Some(storage.id());
        let mut later = Outputs { messages: Vec::new(), updates: Vec::new(), promises: Vec::new() };
        settling(cx, |next| {
            for (vat, job) in outputs.messages {
                // The log is ordered: what a vat of this store does with the message comes after its cause.
                if vat.store_id() == here {
                    post(cx, &vat, job, next);
                } else {
                    later.messages.push((vat, job));
                }
            }
            partial::show::<H>(cx, &outputs.updates, Seen::ByStore(storage.id()), next);
            later.updates = outputs.updates;
            for promise in outputs.promises {
                release(cx, H::clone_promise(cx, &promise), Seen::ByStore(storage.id()), next);
                later.promises.push(promise);
            }
        });
        if later.is_empty() {
            return;
        }
        match storage.hold(later) {
            Some(outputs) => outputs.emit(cx),
            // After a failure there may be no committer any more.
            None if storage.durability().failure().is_some() => storage.flush(cx),
            None => {}
        }
    }

    /// Makes the first actors of a persistent vat and stores them, in one batch (PV-03).
    pub fn found(
        self: &Arc<Self>,
        cx: H::Cx<'_>,
        id: [u8; 16],
        roots_version: Vec<u8>,
        body: impl FnOnce(&Rc<Churn<H>>) -> Result<Vec<H::Actor>, H::Error>,
    ) -> Result<Vec<H::Actor>, H::Error> {
        let session = self.enter(cx)?;
        let churn = session.churn().clone();
        let mut before = None;
        // Known before the first turn: portraits of other vats may name it.
        let id = self.permanent.get_or_init(|| PermanentId(id)).0;
        let result = churn.turn(cx, Heading::run(), || {
            let roots = body(&churn)?;
            before = Some(churn.exchange_roots(slots_of::<H>(&roots)));
            for root in &roots {
                if !churn.is_near(root) {
                    let (actor, target) = ("a root".to_owned(), H::describe_actor(cx, root));
                    return Err(H::error(cx, KernelError::FarRoot { actor, target }));
                }
                churn.adopt(cx, root);
            }
            Ok(roots)
        });
        match (&result, before) {
            // Only now: a root that can't be stored fails the turn at its end.
            (Ok(roots), _) => {
                churn.set_vat_record(VatRecord { id, roots_version, roots: slots_of::<H>(roots) })
            }
            (Err(_), Some(before)) => drop(churn.exchange_roots(before)),
            (Err(_), None) => {}
        }
        drop(churn);
        session.finish(cx)?;
        result
    }

    /// The roots of a vat that was opened from its store. They are ghosts until they are used.
    pub fn roots(self: &Arc<Self>, cx: H::Cx<'_>, record: &VatRecord) -> Result<Vec<H::Actor>, H::Error> {
        self.run(cx, |churn| record.roots.iter().map(|slot| churn.stored_actor(cx, *slot)).collect())
    }
}

fn slots_of<H: Host>(actors: &[H::Actor]) -> Vec<Slot> {
    actors.iter().map(|actor| H::actor_cell(actor).slot()).collect()
}

impl<H: Host> std::fmt::Debug for Vat<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vat({})", self.name)
    }
}
