//! Looking back: a vat is taken to a moment in its past, asked something there, and brought back.

use std::rc::Rc;
use std::sync::Arc;

use crate::actor::Life;
use crate::churn::Churn;
use crate::error::KernelError;
use crate::host::Host;
use crate::log::Moment;
use crate::promise::Reaction;
use crate::turn::{Effect, Undo};
use crate::vat::Vat;

impl<H: Host> Vat<H> {
    /// Runs `body` in the vat as it was at a logged moment, and undoes all that it does: nothing is sent,
    /// settled, stored or recorded (LOG-05, LOG-22). Work that came before is done first.
    pub fn peek<T>(
        self: &Arc<Self>,
        cx: H::Cx<'_>,
        moment: Moment,
        body: impl FnOnce(&Rc<Churn<H>>) -> Result<T, H::Error>,
    ) -> Result<T, H::Error> {
        let session = self.enter(cx)?;
        let result = match self.log().steps_back(cx, moment) {
            Ok(steps) => {
                let churn = session.churn().clone();
                churn.begin_look();
                let stepped = steps.into_iter().try_for_each(|step| churn.step_back(cx, step));
                let result = stepped.and_then(|()| body(&churn));
                churn.end_look();
                result
            }
            Err(reason) => {
                let vat = self.name().to_owned();
                Err(H::error(cx, KernelError::NotInLog { vat, event: moment.sequence, reason }))
            }
        };
        // What the present is, the past may depend on.
        session.leave_durable(cx)?;
        result
    }
}

impl<H: Host> Churn<H> {
    fn begin_look(&self) {
        let mut work = self.work();
        work.open = true;
        work.looks_back = true;
        work.epoch += 1;
        let vat = self.vat();
        vat.pace().begin(work.turn, vat.runtime().watch().tick());
    }

    /// Takes one change back. That is itself a change of the open turn, and undone at its end.
    fn step_back(&self, cx: H::Cx<'_>, step: Undo<H>) -> Result<(), H::Error> {
        let (actor, life) = match step {
            Undo::Touched { actor, saved } => {
                let saved = H::exchange(cx, saved)?;
                self.work().undo.push(Undo::Touched { actor, saved });
                return Ok(());
            }
            Undo::Changed { actor, old } | Undo::Replaced { actor, old } => (actor, Life::Live(old)),
            Undo::Spawned { actor } => (actor, Life::Gone),
            Undo::Rehydrated { .. }
            | Undo::Upgraded { .. }
            | Undo::Stored { .. }
            | Undo::Environment { .. } => return Ok(()),
        };
        let undo = match H::actor_cell(&actor).set_life(life) {
            Life::Live(old) => Undo::Changed { actor, old },
            Life::Ghost => Undo::Rehydrated { actor },
            Life::Gone => Undo::Spawned { actor },
        };
        self.work().undo.push(undo);
        Ok(())
    }

    fn end_look(&self) {
        {
            let mut work = self.work();
            work.open = false;
            work.looks_back = false;
        }
        self.vat().pace().end();
        self.roll_back();
    }

    /// Whether the open turn looks back: nothing of it will have happened.
    pub fn looks_back(&self) -> bool {
        self.work().looks_back
    }

    /// Whether the promise is that of an answer to something that the open turn wants to happen.
    pub fn awaits(&self, promise: &H::Promise) -> bool {
        let cell: *const _ = H::promise_cell(promise);
        let is_it = |other: &H::Promise| std::ptr::eq(cell, H::promise_cell(other));
        self.work().effects.iter().any(|effect| match effect {
            Effect::Send { resolver, .. } => resolver.as_ref().is_some_and(is_it),
            Effect::Settle { promise, .. } => is_it(promise),
            Effect::Update { .. } => false,
            Effect::Keep { .. } => false,
            Effect::Listen { reaction, .. } => match reaction {
                Reaction::Forward { resolver, .. } => resolver.as_ref().is_some_and(is_it),
                Reaction::Listen { derived, .. } | Reaction::Finally { derived, .. } => is_it(derived),
                Reaction::Resume { answer, .. } => is_it(answer),
                Reaction::Settle(waker) => H::goal(waker).is_some_and(|goal| is_it(goal.promise)),
                Reaction::Chain(promise) => is_it(promise),
                Reaction::Partial(_) => false,
                Reaction::Describe(_) => false,
            },
        })
    }
}
