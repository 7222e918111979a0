//! Hot replacement: actors get new code behind the same references (HOT-01 to HOT-13).
//!
//! It is done in one turn. First the likenesses of all are taken, by the old code. Then the vat gets the new
//! environment, and the actors become ghosts of their likenesses: each is made again by the new code when it is
//! first called, by another one's constructor perhaps, and at the latest at the end. So no change is lost that
//! one of them makes in another, and all of it goes with the turn's undo list.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::actor::Life;
use crate::churn::Churn;
use crate::host::Host;
use crate::ids::Slot;
use crate::record::Shape;
use crate::survey::{Fit, Unfit};
use crate::turn::Undo;

/// Actors that wait to be made again.
pub(crate) struct Replacing<H: Host> {
    env: Arc<H::Env>,
    likenesses: HashMap<Slot, Arc<H::Likeness>>,
}

/// A behavior, and whether an upgrade was needed for it.
type Remade<H> = Result<(<H as Host>::Behavior, bool), <H as Host>::Error>;

/// What was being done with an actor when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its portrait was taken, by the old code.
    Portrait,
    /// It was made again, by the new code.
    Make,
    /// Its new portrait was taken.
    Store,
}

/// Actors that were replaced.
pub struct Replaced<H: Host> {
    /// Those that were made again.
    pub actors: Vec<H::Actor>,
    /// Whether none failed that the old code has described.
    pub all: bool,
}

/// Told of each actor that could not be replaced. An error ends the turn.
pub type Failed<'a, H> =
    dyn FnMut(&<H as Host>::Actor, Stage, <H as Host>::Error) -> Result<(), <H as Host>::Error> + 'a;

impl<H: Host> Churn<H> {
    /// The stored actors that are in memory, those that have not been used yet left out; in order.
    pub fn live_actors(&self, cx: H::Cx<'_>) -> Vec<H::Actor> {
        let mut actors: Vec<_> = {
            let work = self.work();
            let live = work.saving.iter().flat_map(|saving| saving.live.all());
            live.filter_map(|weak| H::upgrade(cx, weak)).collect()
        };
        actors.retain(|actor| matches!(H::actor_cell(actor).state().life(), Life::Live(_)));
        actors.sort_unstable_by_key(|actor| H::actor_cell(actor).slot());
        actors
    }

    /// Stored actors that an environment can't make, one entry for each label and reason.
    pub fn find_unfit(
        &self,
        cx: H::Cx<'_>,
        fits: impl Fn(&Shape) -> Fit + Send,
    ) -> Result<Vec<Unfit>, H::Error> {
        let Some(persistence) = self.vat().persistence() else {
            return Ok(Vec::new());
        };
        let (shapes, unsaved) = (self.stored_shapes(), self.unsaved_in(0..u64::MAX));
        let found = H::detached(cx, || persistence.claim().find_unfit(&shapes, &unsaved, fits));
        found.map_err(|error| H::error(cx, error.into()))
    }

    /// Gives the vat another environment, and makes these actors again with it, in the open turn.
    ///
    /// `old` is the environment that their portraits are taken with. Actors that `failed` was told of, and that it
    /// let pass, keep their behavior if only the old code failed; a turn that goes on with others must be undone.
    /// Gives those that were made again.
    pub fn replace(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        old: &H::Env,
        new: Arc<H::Env>,
        actors: Vec<H::Actor>,
        failed: &mut Failed<'_, H>,
    ) -> Result<Replaced<H>, H::Error> {
        let mut likenesses = HashMap::with_capacity(actors.len());
        let mut chosen = Vec::with_capacity(actors.len());
        for actor in actors {
            let cell = H::actor_cell(&actor);
            if !matches!(cell.state().life(), Life::Live(_)) || likenesses.contains_key(&cell.slot()) {
                continue;
            }
            match self.only_look(|| H::likeness(cx, old, &actor)) {
                Ok(likeness) => {
                    likenesses.insert(cell.slot(), Arc::new(likeness));
                    chosen.push(actor);
                }
                Err(error) => failed(&actor, Stage::Portrait, error)?,
            }
        }
        self.adopt_env(new.clone());
        self.empty(cx, &chosen);
        self.work().replacing = Some(Replacing { env: new, likenesses });
        let count = chosen.len();
        let made = self.make_again(cx, chosen, failed);
        let rest = self.work().replacing.take();
        drop(rest);
        made.map(|actors| Replaced { all: actors.len() == count, actors })
    }

    /// Takes the portraits that the end of this turn would take of those that were replaced, and of all else that it
    /// changed, and forgets them.
    pub fn try_to_store(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        env: &H::Env,
        replaced: &Replaced<H>,
        failed: &mut Failed<'_, H>,
    ) -> Result<(), H::Error> {
        let mut all = replaced.all;
        for actor in &replaced.actors {
            if let Err(error) = self.only_look(|| H::portrait(cx, env, actor)) {
                all = false;
                failed(actor, Stage::Store, error)?;
            }
        }
        // What failed before would fail again here, and not by itself.
        let sealed = if all { self.try_seal(cx) } else { Ok(()) };
        match (sealed, replaced.actors.first()) {
            (Err(error), Some(actor)) => failed(actor, Stage::Store, error),
            (other, _) => other,
        }
    }

    fn adopt_env(&self, env: Arc<H::Env>) {
        let vat = self.vat();
        let mut work = self.work();
        // What was noted by the old code must be noted again.
        work.epoch += 1;
        if let Some(persistence) = vat.persistence() {
            let old = persistence.exchange_env(env);
            work.undo.push(Undo::Environment { vat: vat.clone(), old });
        }
    }

    /// Makes ghosts of actors.
    fn empty(&self, cx: H::Cx<'_>, actors: &[H::Actor]) {
        for actor in actors {
            let cell = H::actor_cell(actor);
            let before = cell.set_life(Life::Ghost);
            if let Life::Live(old) = before {
                cell.state().code.0 += 1;
                let actor = H::clone_actor(cx, actor);
                self.work().undo.push(Undo::Replaced { actor, old });
            } else {
                cell.set_life(before);
            }
        }
    }

    fn make_again(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        actors: Vec<H::Actor>,
        failed: &mut Failed<'_, H>,
    ) -> Result<Vec<H::Actor>, H::Error> {
        let mut made = Vec::with_capacity(actors.len());
        for actor in actors {
            match self.behavior(cx, &actor) {
                Ok(behavior) => {
                    drop(behavior);
                    made.push(actor);
                }
                Err(error) => failed(&actor, Stage::Make, error)?,
            }
        }
        Ok(made)
    }

    /// The behavior of an actor that waits to be made again, and whether an upgrade was needed; `None` if it is no
    /// such actor.
    pub(crate) fn remake(self: &Rc<Self>, cx: H::Cx<'_>, actor: &H::Actor) -> Option<Remade<H>> {
        let (env, likeness) = {
            let work = self.work();
            let replacing = work.replacing.as_ref()?;
            (replacing.env.clone(), replacing.likenesses.get(&H::actor_cell(actor).slot())?.clone())
        };
        Some(H::remake(cx, &env, actor, &likeness))
    }
}
