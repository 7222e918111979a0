//! One run through a store: what can't be reached is found, and removed in batches.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use crate::churn::Churn;
use crate::claim::Claim;
use crate::collecting::{Pace, PartReport, Phase, Progress, Watch};
use crate::history::Purpose;
use crate::host::Host;
use crate::ids::{Address, PartId, Slot};
use crate::mailbox::Entry;
use crate::schema::{self, Kind};
use crate::session::Session;
use crate::storage::{SLICE, Storage};
use crate::store::{Batch, Store, StoreError};
use crate::vat::Vat;
use crate::walk::Walk;

type Outcome<T> = Result<T, Arc<StoreError>>;

/// A collection that runs.
pub(crate) struct Run<'a, H: Host> {
    storage: &'a Arc<Storage<H>>,
    pace: Pace,
}

/// Somebody wants it to end.
struct Stopped;

/// An actor's record that may be removed.
#[derive(Clone, Copy)]
struct Candidate {
    slot: Slot,
    bytes: u64,
}

/// What stands in a stretch of a part.
struct Page {
    candidates: Vec<Candidate>,
    records: u64,
    /// Where to go on; `None` at the end.
    next: Option<Slot>,
}

/// What was removed.
#[derive(Clone, Copy, Default)]
struct Removed {
    actors: u64,
    bytes: u64,
}

impl<'a, H: Host> Run<'a, H> {
    pub(crate) fn new(storage: &'a Arc<Storage<H>>, pace: Pace) -> Self {
        Self { storage, pace }
    }

    /// What was found in each part, and how many slots had been given out at the beginning; `None` if it was ended
    /// before.
    pub(crate) fn collect(&self, watch: &mut Watch<'_>) -> Outcome<Option<(Vec<PartReport>, u64)>> {
        let names: BTreeMap<_, _> = self.storage.stored_parts()?.into_iter().collect();
        self.storage.collector().barrier.start();
        let mut walk = Walk::new(self.store(), names.values().copied())?;
        if self.mark(&mut walk, watch)?.is_err() {
            return Ok(None);
        }
        let mut reports = Vec::new();
        let mut passed = 0;
        for (name, part) in names {
            let mut report = PartReport { name, kept: 0, removed: 0, bytes: 0 };
            if self.sweep(&mut walk, part, &mut report, &mut passed, watch)?.is_err() {
                return Ok(None);
            }
            reports.push((part, report));
        }
        let slots = walk.slots();
        for (part, report) in &reports {
            let worthwhile = report.removed * 100 >= (report.removed + report.kept) * self.pace.compact_from;
            if report.removed > 0 && worthwhile {
                let progress = Progress { phase: Phase::Compacting, done: 0, total: report.kept };
                if self.may_go_on(progress, watch).is_err() {
                    break;
                }
                let (start, end) = schema::range(*part, Kind::Actor);
                self.store().compact(&start, &end)?;
            }
        }
        Ok(Some((reports.into_iter().map(|(_, report)| report).collect(), slots)))
    }

    fn store(&self) -> &dyn Store {
        &**self.storage.store()
    }

    fn may_go_on(&self, progress: Progress, watch: &mut Watch<'_>) -> Result<(), Stopped> {
        let collector = self.storage.collector();
        // Who watches may close the store.
        let stop = collector.is_stopping() || watch(progress).is_break() || collector.is_stopping();
        if stop { Err(Stopped) } else { Ok(()) }
    }

    /// Marks all that can be reached.
    fn mark(&self, walk: &mut Walk, watch: &mut Watch<'_>) -> Outcome<Result<(), Stopped>> {
        let progress = |walk: &Walk| {
            let (done, total) = (walk.looked_at(), walk.slots().max(walk.looked_at()));
            Progress { phase: Phase::Marking, done, total }
        };
        // Whoever has been inside since the barrier was set up reports what he does from there on.
        for vat in self.storage.live_vats() {
            loop {
                if self.may_go_on(progress(walk), watch).is_err() {
                    return Ok(Err(Stopped));
                }
                let Some(part) = vat.persistence().map(|persistence| persistence.claim.part()) else {
                    break;
                };
                match self.inside(&vat, |cx, churn| in_use(cx, churn)) {
                    Inside::Did((near, far)) => {
                        near.into_iter().for_each(|slot| walk.mark(part, slot));
                        far.into_iter().for_each(|address| walk.mark_far(address));
                        break;
                    }
                    Inside::Closed => break,
                    Inside::Busy => {}
                }
            }
        }
        walk.add_roots(self.store())?;
        while walk.step(self.store(), &self.storage.collector().barrier, self.pace.step)? {
            if self.may_go_on(progress(walk), watch).is_err() {
                return Ok(Err(Stopped));
            }
        }
        Ok(Ok(()))
    }

    /// Removes what is not marked of a part.
    fn sweep(
        &self,
        walk: &mut Walk,
        part: PartId,
        report: &mut PartReport,
        passed: &mut u64,
        watch: &mut Watch<'_>,
    ) -> Outcome<Result<(), Stopped>> {
        let mut next = Some(Slot(0));
        while let Some(from) = next {
            let page = self.page(walk, part, from)?;
            next = page.next;
            *passed += page.records;
            let progress =
                Progress { phase: Phase::Sweeping, done: *passed, total: walk.slots().max(*passed) };
            let mut removed = None;
            while removed.is_none() {
                if self.may_go_on(progress, watch).is_err() {
                    return Ok(Err(Stopped));
                }
                removed = match page.candidates.is_empty() {
                    true => Some(Removed::default()),
                    false => self.remove(walk, part, &report.name, &page.candidates)?,
                };
            }
            let Removed { actors, bytes } = removed.unwrap_or_default();
            report.removed += actors;
            report.bytes += bytes;
            report.kept += page.records - actors;
        }
        Ok(Ok(()))
    }

    fn page(&self, walk: &Walk, part: PartId, from: Slot) -> Outcome<Page> {
        let (_, end) = schema::range(part, Kind::Actor);
        let mut page = Page { candidates: Vec::new(), records: 0, next: None };
        let most = u64::try_from(self.pace.page).unwrap_or(u64::MAX).max(1);
        self.store().scan(&schema::actor_key(part, from), &end, &mut |key, value| {
            let Some(slot) = schema::id_of(key).map(Slot) else {
                return ControlFlow::Continue(());
            };
            if page.records == most {
                page.next = Some(slot);
                return ControlFlow::Break(());
            }
            page.records += 1;
            if walk.is_garbage(part, slot) {
                page.candidates.push(Candidate { slot, bytes: (key.len() + value.len()) as u64 });
            }
            ControlFlow::Continue(())
        })?;
        Ok(page)
    }

    /// Removes some actors of a part, while nobody runs its vat. `None`: that could not be had in time.
    fn remove(
        &self,
        walk: &mut Walk,
        part: PartId,
        name: &str,
        candidates: &[Candidate],
    ) -> Outcome<Option<Removed>> {
        let Some(vat) = self.storage.live_vat(part) else {
            return match self
                .storage
                .while_free(part, name, |claim| self.remove_by(walk, claim, candidates, &[]))
            {
                Some(removed) => removed.map(Some),
                None => {
                    // A vat is just being opened or closed there.
                    std::thread::sleep(SLICE / 10);
                    Ok(None)
                }
            };
        };
        let removed = self.inside(&vat, |cx, churn| {
            let Some(persistence) = churn.vat().persistence() else {
                return Ok(Removed::default());
            };
            let slots = candidates.iter().map(|candidate| candidate.slot);
            let used = match &churn.work().saving {
                Some(saving) => saving.used_among(slots),
                None => slots.collect(),
            };
            H::detached(cx, || self.remove_by(walk, &persistence.claim, candidates, &used))
        });
        match removed {
            Inside::Did(removed) => removed.map(Some),
            Inside::Busy | Inside::Closed => Ok(None),
        }
    }

    /// Removes those of the candidates that can't be reached from what is in use, in one batch.
    fn remove_by(
        &self,
        walk: &mut Walk,
        claim: &Claim<H>,
        candidates: &[Candidate],
        used: &[Slot],
    ) -> Outcome<Removed> {
        let part = claim.part();
        used.iter().for_each(|slot| walk.mark(part, *slot));
        walk.finish(self.store(), &self.storage.collector().barrier)?;
        let (mut batch, mut removed) = (Batch::new(), Removed::default());
        for candidate in candidates.iter().filter(|candidate| walk.is_garbage(part, candidate.slot)) {
            batch.delete(schema::actor_key(part, candidate.slot));
            removed.actors += 1;
            removed.bytes += candidate.bytes;
        }
        if !batch.is_empty() {
            claim.write(batch, Purpose::Sweep).map_err(|error| self.storage.failed(error))?;
        }
        Ok(removed)
    }

    /// Does something inside a vat, between two of its churns.
    fn inside<T>(&self, vat: &Arc<Vat<H>>, doing: impl FnOnce(H::Cx<'_>, &Rc<Churn<H>>) -> T) -> Inside<T> {
        let done = H::attached(|cx| match H::detached(cx, || vat.mailbox().enter(SLICE)) {
            Entry::Entered(work) => {
                let session = Session::begin(vat.clone(), work);
                let done = doing(cx, session.churn());
                session.leave();
                Inside::Did(done)
            }
            Entry::Busy => Inside::Busy,
            Entry::Closed => Inside::Closed,
        });
        // The host is about to end, and takes the vat with it.
        done.unwrap_or(Inside::Closed)
    }
}

enum Inside<T> {
    Did(T),
    Busy,
    Closed,
}

/// What a vat has in memory, of its own actors and of those of others.
fn in_use<H: Host>(cx: H::Cx<'_>, churn: &Rc<Churn<H>>) -> (Vec<Slot>, Vec<Address>) {
    if let Some(persistence) = churn.vat().persistence() {
        churn.forget_dropped(cx, persistence);
    }
    let gone = churn.work().saving.as_mut().map(|saving| saving.far.tidy(cx));
    drop(gone);
    churn.work().saving.as_ref().map(|saving| saving.in_use()).unwrap_or_default()
}
