//! Rehearsal: a turn of which nothing is kept, whatever comes of it.

use std::rc::Rc;
use std::sync::Arc;

use crate::churn::Churn;
use crate::host::Host;
use crate::ids::Slot;
use crate::record::Portrait;
use crate::vat::Vat;

impl<H: Host> Vat<H> {
    /// Runs `body` in a turn of its own, and undoes all that it does: nothing is sent, settled, stored or
    /// recorded. Work that came before is done first.
    pub fn rehearse<T>(
        self: &Arc<Self>,
        cx: H::Cx<'_>,
        body: impl FnOnce(&Rc<Churn<H>>) -> Result<T, H::Error>,
    ) -> Result<T, H::Error> {
        let session = self.enter(cx)?;
        let churn = session.churn().clone();
        let result = churn.rehearse(cx, || body(&churn));
        drop(churn);
        // What the present is, the answer may depend on.
        session.finish(cx)?;
        result
    }
}

impl<H: Host> Churn<H> {
    /// Runs `body` as one turn, and undoes it.
    pub fn rehearse<T>(
        self: &Rc<Self>,
        _cx: H::Cx<'_>,
        body: impl FnOnce() -> Result<T, H::Error>,
    ) -> Result<T, H::Error> {
        self.begin_turn();
        let result = body();
        self.abandon_turn();
        result
    }

    /// Makes a stored actor in the open turn, and takes its new portrait. Then `body` may ask it.
    pub fn try_actor<T>(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        slot: Slot,
        body: impl FnOnce(&H::Actor, &Portrait<H::Actor, H::Promise>) -> Result<T, H::Error>,
    ) -> Result<T, H::Error> {
        let actor = self.stored_actor(cx, slot)?;
        let behavior = self.behavior(cx, &actor)?;
        drop(behavior);
        let env = self.env(cx)?;
        let portrait = self.only_look(|| H::portrait(cx, &env, &actor))?;
        body(&actor, &portrait)
    }

    /// Makes these actors roots in the open turn, and takes all portraits that this would store.
    pub fn try_to_found(self: &Rc<Self>, cx: H::Cx<'_>, roots: &[H::Actor]) -> Result<(), H::Error> {
        roots.iter().for_each(|root| self.adopt(cx, root));
        self.try_seal(cx)
    }

    /// The environment of the vat that is run.
    pub fn env(&self, cx: H::Cx<'_>) -> Result<Arc<H::Env>, H::Error> {
        let vat = self.vat();
        let not = || crate::error::KernelError::NotPersistent { vat: vat.name().to_owned() };
        vat.persistence().map(|persistence| persistence.env()).ok_or_else(|| H::error(cx, not()))
    }
}
