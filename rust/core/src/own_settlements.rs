//! What the open turn has settled itself, as it may see before anybody else does.

use std::collections::HashMap;

use crate::churn::Churn;
use crate::host::Host;
use crate::promise::{Outcome, PromiseCell};
use crate::turn::Effect;

/// Where among the effects of a turn its settlements stand: as far as somebody has looked.
#[derive(Default)]
pub(crate) struct OwnSettlements {
    turn: u64,
    looked_at: usize,
    /// The first settlement of each promise, which is kept alive by that, by the address of its cell.
    by_address: HashMap<usize, usize>,
}

impl OwnSettlements {
    /// Effects are taken back.
    pub(crate) fn forget(&mut self) {
        self.looked_at = 0;
        self.by_address.clear();
    }
}

impl<H: Host> Churn<H> {
    /// The outcome that this turn gives a promise, if it succeeds.
    pub(crate) fn own_settlement(&self, cx: H::Cx<'_>, promise: &H::Promise) -> Option<Outcome<H>> {
        let mut work = self.work();
        let work = &mut **work;
        let own = &mut work.own_settlements;
        if own.turn != work.turn {
            own.turn = work.turn;
            own.forget();
        }
        for (index, effect) in work.effects.iter().enumerate().skip(own.looked_at) {
            if let Effect::Settle { promise, .. } = effect {
                own.by_address.entry(address_of(H::promise_cell(promise))).or_insert(index);
            }
        }
        own.looked_at = work.effects.len();
        match work.effects.get(*own.by_address.get(&address_of(H::promise_cell(promise)))?)? {
            Effect::Settle { outcome, .. } => Some(outcome.share(cx)),
            _ => None,
        }
    }
}

fn address_of<H: Host>(cell: &PromiseCell<H>) -> usize {
    std::ptr::from_ref(cell) as usize
}
