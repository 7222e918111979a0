//! What the kernel itself refuses. The host turns it into an error of its language.

use std::sync::Arc;

use crate::store::StoreError;

/// Why the kernel did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The vat belongs to the process that this one was forked from.
    #[error(
        "this process was forked from one that uses goblins; its vats and stores belong to the parent: start workers \
         with the 'spawn' method, or import and open everything in the child only"
    )]
    Forked,
    /// The vat is closed.
    #[error("vat {vat} is closed; messages to its actors can't be handled any more")]
    VatClosed {
        /// The vat's name.
        vat: String,
    },
    /// The vat is manual, and nobody has it any more.
    #[error(
        "nobody has the ManualVat {vat} any more, so its messages can't be handled: keep it, and call step() or drain()"
    )]
    NoSteps {
        /// The vat's name.
        vat: String,
    },
    /// A write failed: what is in memory can't be trusted (guarantee G9).
    #[error(
        "vat {vat} has stopped, since its store failed: {cause}; close it and open it again from the store"
    )]
    Poisoned {
        /// The vat's name.
        vat: String,
        /// What happened.
        cause: Arc<StoreError>,
    },
    /// As many messages wait as may.
    #[error(
        "the inbox of vat {vat} is full ({limit} messages wait): send less, let it catch up, or raise its \
         inbox_limit"
    )]
    InboxFull {
        /// The vat's name.
        vat: String,
        /// How many may wait.
        limit: usize,
    },
    /// A vat with a store can't go on from memory.
    #[error("vat {vat} lives in a store: open it from there again, with spawn_persistent_vat")]
    NotReopened {
        /// The vat's name.
        vat: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// The actor's spawn was undone.
    #[error("actor {slot} of vat {vat} does not exist: the turn that spawned it was undone")]
    NoSuchActor {
        /// The actor.
        slot: u64,
        /// The vat's name.
        vat: String,
    },
    /// What is done to make an actor calls that actor.
    #[error(
        "{actor} is being made from its record, and can't be called until that is done: send it a message instead"
    )]
    BeingMade {
        /// The actor.
        actor: String,
    },
    /// A look back at a time before the actor was spawned.
    #[error("actor {slot} of vat {vat} does not exist at the event that is looked at: it was spawned later")]
    NotYetSpawned {
        /// The actor.
        slot: u64,
        /// The vat's name.
        vat: String,
    },
    /// The log can't take the vat back to an event.
    #[error("the log of vat {vat} does not reach back to event {event} without a gap: {reason}")]
    NotInLog {
        /// The vat's name.
        vat: String,
        /// The event's number.
        event: u64,
        /// What is missing.
        reason: &'static str,
    },
    /// An actor changed while it was running, and then wanted to become something else.
    #[error(
        "a stale bcom: actor {slot} of vat {vat} already changed its behavior in a call made during this one; \
         return the value without bcom, or let the inner call do all of the change"
    )]
    StaleBecome {
        /// The actor.
        slot: u64,
        /// The vat's name.
        vat: String,
    },
    /// A call that had waited wanted its actor to become something else, which had got new code meanwhile.
    #[error(
        "a late bcom: the code of actor {slot} of vat {vat} was replaced while this call waited, so what it wants \
         to become is of the old code and would be lost; let it call the actor instead, which has the new code"
    )]
    LateBecome {
        /// The actor.
        slot: u64,
        /// The vat's name.
        vat: String,
    },
    /// A `bcom` of another actor was returned.
    #[error(
        "actor {slot} of vat {vat} returned what another actor's bcom made; use the bcom that its own constructor got"
    )]
    ForeignBecome {
        /// The actor.
        slot: u64,
        /// The vat's name.
        vat: String,
    },
    /// A message went to a promise for something that is no actor.
    #[error(
        "a message was sent to a promise that was fulfilled with a plain value ({value}), which can't get messages"
    )]
    NotAnActor {
        /// The value in words.
        value: String,
    },
    /// A promise was fulfilled with a promise that waits for it.
    #[error("a promise was fulfilled with a promise that waits for it in turn")]
    PromiseCycle,
    /// A record that another one refers to is missing.
    #[error(
        "the store {store} is damaged at {place}: slot {slot} of vat {vat} is referred to, and has no record; restore it \
         from a backup"
    )]
    MissingRecord {
        /// The slot.
        slot: u64,
        /// The vat's name.
        vat: String,
        /// The store, as its user named it.
        store: String,
        /// The key of the record.
        place: String,
    },
    /// An actor of another vat can't be a root.
    #[error(
        "{actor} is {target}, an actor of another vat: a vat's roots are its own actors, which may refer to it"
    )]
    FarRoot {
        /// What was to be the root.
        actor: String,
        /// The actor.
        target: String,
    },
    /// A reference to an actor of a vat without a store can't be stored.
    #[error(
        "a reference to {target}, whose vat has no store, so that nobody finds it again after a restart: open that \
         vat with spawn_persistent_vat, or keep the reference out of persistent state"
    )]
    WithoutStore {
        /// The actor referred to.
        target: String,
    },
    /// A reference to an actor of a view of a store can't be stored elsewhere: what is in a view goes with it.
    #[error(
        "a reference to {target}, which lives in a view of a store and goes with it: keep a reference to the actor of \
         the store itself, or what the one of the view answers"
    )]
    OfView {
        /// The actor referred to.
        target: String,
    },
    /// An actor of a vat without a store has no id that lasts (OID-06).
    #[error(
        "{actor} has no persistable id, since its vat has no store: only actors of a vat that was opened with \
         spawn_persistent_vat have one"
    )]
    WithoutId {
        /// The actor.
        actor: String,
    },
    /// Another vat's state refers to an actor that is not stored.
    #[error(
        "there is no actor {slot} in the store of vat {vat}, though another vat refers to it: it could not be stored, \
         or the process ended before it was"
    )]
    NotStored {
        /// The actor.
        slot: u64,
        /// The vat's name.
        vat: String,
    },
    /// The vat has no store.
    #[error("vat {vat} is not persistent; only one that was opened from a store is")]
    NotPersistent {
        /// The vat's name.
        vat: String,
    },
    /// A vat that is saved by hand was closed with changes that were not.
    #[error(
        "vat {vat} has changed {actors} actor(s) since its last save, and these changes are lost: call save() \
         before it is closed"
    )]
    Unsaved {
        /// The vat's name.
        vat: String,
        /// How many actors have changed.
        actors: usize,
    },
    /// A turn is open already, or none is.
    #[error("vat {vat} can't be called here: {reason}")]
    WrongMoment {
        /// The vat's name.
        vat: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A wait would never end.
    #[error("waiting for vat {vat} here would never end: {chain}; await it, or use send(...) and on(...)")]
    Deadlock {
        /// The name of the vat that was to be waited for.
        vat: String,
        /// Who waits for whom.
        chain: String,
    },
    /// The vat did not come to rest in time.
    #[error("vat {vat} has not come to rest in time; it goes on")]
    TimedOut {
        /// The vat's name.
        vat: String,
    },
}

impl From<StoreError> for KernelError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}
