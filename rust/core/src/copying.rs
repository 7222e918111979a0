//! Copying a store into another one, of any kind (STO-16).

use std::ops::ControlFlow;

use crate::host::Host;
use crate::parts;
use crate::schema::{self, Kind, STORE_PART};
use crate::storage::Storage;
use crate::store::{Batch, Change, Store, StoreError};

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// How many vats.
    pub parts: u64,
    /// How many records.
    pub records: u64,
    /// How many bytes, keys and values together.
    pub bytes: u64,
}

/// As much as is written at once, in bytes.
const BATCH: usize = 1 << 20;

/// Copies all that stands in `from` at this moment into `to`, which must be empty. Vats may live in `from` and go on
/// meanwhile. The checksum of each record is verified. To be called detached.
///
/// The format and the names of the parts come last, in one batch: so a copy that was cut off is told from a whole store.
/// One that fails leaves a store that is empty.
pub fn copy<H: Host>(from: &Storage<H>, to: &Storage<H>) -> Result<Copied, StoreError> {
    from.check_complete()?;
    let snapshot = from.store().snapshot()?;
    let copied = to.fill(|to| {
        parts::clear(to)?;
        copy_all(&*snapshot, to)
    });
    let closed = snapshot.close();
    let copied = copied?;
    closed.map(|()| copied)
}

fn copy_all(from: &dyn Store, to: &dyn Store) -> Result<Copied, StoreError> {
    let name = from.name();
    let (mut copied, mut batch, mut size) = (Copied::default(), Batch::new(), 0);
    let mut last = Batch::new();
    let mut outcome = Ok(());
    from.scan(&[], &[0xff; schema::KEY_LEN], &mut |key, value| {
        outcome = schema::open(&name, key, value).map(drop);
        if outcome.is_err() {
            return ControlFlow::Break(());
        }
        copied.records += 1;
        copied.bytes += (key.len() + value.len()) as u64;
        let is_name = schema::is_of(key, STORE_PART, Kind::PartName);
        if is_name || schema::is_of(key, STORE_PART, Kind::Format) {
            copied.parts += u64::from(is_name);
            last.put(key.to_vec(), value.to_vec());
            return ControlFlow::Continue(());
        }
        batch.put(key.to_vec(), value.to_vec());
        size += key.len() + value.len();
        if size >= BATCH {
            size = 0;
            outcome = to.write(&std::mem::take(&mut batch));
        }
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome?;
    for change in last.changes() {
        if let Change::Put(key, value) = change {
            batch.put(key.clone(), value.clone());
        }
    }
    to.write(&batch)?;
    to.sync()?;
    Ok(copied)
}
