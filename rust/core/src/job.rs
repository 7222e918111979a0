//! What waits in a vat's queues.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::error::KernelError;
use crate::host::Host;
use crate::ids::Slot;
use crate::log::Cause;
use crate::partial::Hearer;
use crate::promise::{Outcome, Reaction};
use crate::release::{Settlements, post, settling, wait_on_outside};
use crate::vat::Vat;

/// One piece of work for a vat, and what caused it.
pub struct Job<H: Host> {
    /// What is to be done.
    pub task: Task<H>,
    /// Why.
    pub cause: Cause,
}

/// What a vat can be asked to do.
pub enum Task<H: Host> {
    /// An actor gets a message.
    Deliver {
        /// The actor.
        actor: H::Actor,
        /// The message.
        message: H::Message,
        /// The promise of the answer; without one an error is only reported.
        resolver: Option<H::Promise>,
    },
    /// A churn that was cut goes on.
    GoOn {
        /// What it has still to do.
        jobs: VecDeque<Job<H>>,
        /// As often it was cut.
        cuts: u64,
    },
    /// A promise that the vat waits for has settled elsewhere.
    Hear(H::Promise),
    /// A promise has settled.
    React {
        /// What to do about it.
        reaction: Reaction<H>,
        /// How it ended.
        outcome: Outcome<H>,
    },
    /// A promise tells of something before it settles.
    Update {
        /// Who is told.
        hearer: Hearer<H>,
        /// Of what.
        value: H::Value,
    },
    /// Another vat refers to an actor in its state: it is to be stored.
    Keep {
        /// The actor.
        actor: H::Actor,
        /// That vat's name.
        for_vat: String,
        /// It lives in another store.
        foreign: bool,
    },
    /// Another vat asks for an actor that its state refers to.
    Find {
        /// The actor.
        slot: Slot,
        /// The promise of it.
        promise: H::Promise,
        /// The vat that asks.
        asker: Weak<Vat<H>>,
    },
}

impl<H: Host> Job<H> {
    /// Shows what is to be done.
    pub(crate) fn visit<E>(&self, look: &mut impl FnMut(&Task<H>) -> Result<(), E>) -> Result<(), E> {
        match &self.task {
            Task::GoOn { jobs, .. } => jobs.iter().try_for_each(|job| job.visit(look)),
            task => look(task),
        }
    }

    /// Breaks what waits for this job, which will not be done.
    pub(crate) fn refuse(
        self,
        cx: H::Cx<'_>,
        vat: &Arc<Vat<H>>,
        why: KernelError,
        next: &mut Settlements<H>,
    ) {
        match self.task {
            Task::Deliver { resolver, .. } => refuse_message(cx, vat, resolver, why, next),
            Task::GoOn { jobs, .. } => {
                for job in jobs {
                    job.refuse(cx, vat, why.clone(), next);
                }
            }
            Task::React { reaction, .. } => reaction.refuse(cx, vat, why, next),
            // Nobody waits for its answer, and the outcome is still to come.
            Task::Update { hearer, value } => drop((hearer, value)),
            Task::Keep { actor, for_vat, foreign } => {
                if !H::actor_cell(&actor).is_stored() {
                    let actor = H::describe_actor(cx, &actor);
                    let elsewhere = if foreign { " of another store" } else { "" };
                    let what = format!(
                        "{actor}, to which vat {for_vat}{elsewhere} refers in its state, could not be stored"
                    );
                    H::report(cx, vat, &what, &H::error(cx, why));
                }
            }
            Task::Find { slot, promise, asker } => vat.ask_again(cx, slot, promise, &asker, next),
            Task::Hear(promise) => {
                for (reaction, _) in H::promise_cell(&promise).take_reactions(cx, vat) {
                    reaction.refuse(cx, vat, why.clone(), next);
                }
            }
        }
    }
}

impl<H: Host> Reaction<H> {
    /// Breaks what waits for this reaction, which will not happen.
    pub(crate) fn refuse(
        self,
        cx: H::Cx<'_>,
        vat: &Arc<Vat<H>>,
        why: KernelError,
        next: &mut Settlements<H>,
    ) {
        let lost = matches!(why, KernelError::Poisoned { .. });
        let answer = match self {
            Self::Forward { resolver, .. } => resolver,
            Self::Listen { derived, .. } | Self::Finally { derived, .. } => Some(derived),
            Self::Resume { answer, .. } => Some(answer),
            Self::Settle(waker) => match H::goal(&waker) {
                Some(goal) => Some(H::clone_promise(cx, goal.promise)),
                None => return drop(waker),
            },
            Self::Partial(listener) => return drop(listener),
            // What made it wait may have been taken back.
            Self::Chain(promise) if lost => Some(promise),
            Self::Chain(promise) => return wait_on_outside(cx, promise, next),
            // It is stored that the promise had not settled.
            Self::Describe(_) => return,
        };
        refuse_message(cx, vat, answer, why, next);
    }
}

fn refuse_message<H: Host>(
    cx: H::Cx<'_>,
    vat: &Arc<Vat<H>>,
    answer: Option<H::Promise>,
    why: KernelError,
    next: &mut Settlements<H>,
) {
    let error = H::error(cx, why);
    match answer {
        Some(promise) => next.push_back((promise, Outcome::Broken(error), true)),
        None => H::report(cx, vat, "a message that nobody waits for was not delivered", &error),
    }
}

/// Sends a message from outside all vats (or on behalf of nobody).
pub fn send_outside<H: Host>(
    cx: H::Cx<'_>,
    actor: H::Actor,
    message: H::Message,
    resolver: Option<H::Promise>,
) {
    let vat = H::actor_cell(&actor).vat().clone();
    let task = Task::Deliver { actor, message, resolver };
    settling(cx, |next| post(cx, &vat, Job { task, cause: Cause::default() }, next));
}
