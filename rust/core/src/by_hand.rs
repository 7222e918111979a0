//! Vats that are saved by hand: what their churns changed waits in memory for [`Vat::save`].
//!
//! Portraits are taken at the end of each turn all the same, so that what can't be stored is an error of the
//! turn that made it (guarantee G8). Of each actor the newest record is kept: a save writes all of them in one
//! batch, and until then an actor that has left memory is made again from there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::churn::{Churn, Work};
use crate::error::KernelError;
use crate::fork::is_forked;
use crate::host::Host;
use crate::ids::Slot;
use crate::mailbox::Entry;
use crate::persistence::Persistence;
use crate::record::Record;
use crate::schema;
use crate::store::StoreError;
use crate::vat::Vat;

/// When a vat writes what its churns changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveOn {
    /// Each churn is a batch.
    Churn,
    /// Only when it is told to.
    Request,
}

/// Whether a vat is saved by hand.
#[derive(Debug, Default)]
pub(crate) struct ByHand(AtomicBool);

impl ByHand {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<H: Host> Vat<H> {
    /// Says when it is saved. New roots, and what goes with them, are written at once in any case (PV-03). Does
    /// nothing to a vat without a store.
    pub fn set_save_on(&self, save_on: SaveOn) {
        if let Some(persistence) = self.persistence() {
            persistence.by_hand.0.store(save_on == SaveOn::Request, Ordering::Relaxed);
        }
    }

    /// Writes all that has changed since the last save, in one batch, and returns when it is durable, with all
    /// that this vat has seen. Work that came before is done first.
    pub fn save(self: &Arc<Self>, cx: H::Cx<'_>) -> Result<(), H::Error> {
        if self.persistence().is_none() {
            return Err(H::error(cx, KernelError::NotPersistent { vat: self.name().to_owned() }));
        }
        let session = self.enter(cx)?;
        session.churn().ask_for_save();
        session.finish(cx)
    }

    /// As [`Vat::report_unsaved`], for a vat that nobody has closed, and nobody holds any more.
    pub(crate) fn report_if_lost(&self) {
        let by_hand = self.persistence().is_some_and(|persistence| persistence.by_hand.is_set());
        if by_hand
            && !is_forked()
            && let Entry::Entered(work) = self.mailbox().try_enter()
        {
            H::attached(|cx| self.report_lost(cx, &work, "collected without a save"));
        }
    }

    /// Says so if a vat that is saved by hand is closed with changes that were not (guarantee G10).
    pub(crate) fn report_unsaved(&self, cx: H::Cx<'_>, work: &Work<H>) {
        self.report_lost(cx, work, "closed without a save");
    }

    fn report_lost(&self, cx: H::Cx<'_>, work: &Work<H>, what: &str) {
        let by_hand = self.persistence().is_some_and(|persistence| persistence.by_hand.is_set());
        let actors = work.saving.as_ref().map_or(0, |saving| saving.records.len());
        if by_hand && actors > 0 && self.failure().is_none() {
            let unsaved = H::error(cx, KernelError::Unsaved { vat: self.title().into_owned(), actors });
            H::report(cx, self, what, &unsaved);
        }
    }
}

impl<H: Host> Churn<H> {
    /// The record of an actor that has not been written yet.
    pub(crate) fn unsaved_record(
        &self,
        persistence: &Persistence<H>,
        slot: Slot,
    ) -> Option<Result<Record, StoreError>> {
        let work = self.work();
        let record = Record::decode(work.saving.as_ref()?.records.get(&slot)?);
        Some(record.map_err(|reason| {
            let key = schema::actor_key(persistence.claim.part(), slot);
            schema::corrupt(&persistence.claim.storage().name(), &key, &reason)
        }))
    }

    /// The save is made at the end of this churn; what it releases is durable.
    pub fn ask_for_save(&self) {
        if let Some(saving) = &mut self.work().saving {
            saving.asked = true;
        }
    }
}
