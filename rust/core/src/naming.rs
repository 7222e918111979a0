//! What vats are called in messages.
//!
//! Vats of several stores may have one name: those that nobody named are all called "main". While two such vats are open,
//! messages say in which store each of them is.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fork::is_forked;
use crate::host::Host;
use crate::ids::VatId;
use crate::promise::StoreId;
use crate::storage::Storage;
use crate::vat::Vat;

/// The open vats of a runtime that have a store, by name.
#[derive(Default)]
pub(crate) struct Names(Mutex<HashMap<String, Vec<Entry>>>);

struct Entry {
    vat: VatId,
    store: StoreId,
    place: String,
}

/// Keeps a vat among the names. A vat has it until its part of the store is free.
pub(crate) struct Named {
    names: Arc<Names>,
    name: String,
    vat: VatId,
}

impl Named {
    pub(crate) fn new<H: Host>(vat: &Vat<H>, storage: &Storage<H>) -> Self {
        let names = vat.runtime().names().clone();
        let entry = Entry { vat: vat.id(), store: storage.id(), place: place(storage) };
        names.0.lock().entry(vat.name().to_owned()).or_default().push(entry);
        Self { names, name: vat.name().to_owned(), vat: vat.id() }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if is_forked() {
            return;
        }
        let mut names = self.names.0.lock();
        if let Some(entries) = names.get_mut(&self.name) {
            entries.retain(|entry| entry.vat != self.vat);
            if entries.is_empty() {
                names.remove(&self.name);
            }
        }
    }
}

impl<H: Host> Vat<H> {
    /// Its name, for messages. If a vat of another store that is open has the same name, the store is told as well; and
    /// the vat's number, if the stores are called the same.
    pub fn title(&self) -> Cow<'_, str> {
        let name = self.name();
        // A fork may have left the lock taken.
        let Some(persistence) = self.persistence().filter(|_| !is_forked()) else {
            return Cow::Borrowed(name);
        };
        let storage = persistence.claim.storage();
        let names = self.runtime().names().0.lock();
        let mut others =
            names.get(name).into_iter().flatten().filter(|entry| entry.store != storage.id()).peekable();
        if others.peek().is_none() {
            return Cow::Borrowed(name);
        }
        let place = place(storage);
        Cow::Owned(match others.any(|entry| entry.place == place) {
            true => format!("{name} (number {} of the process, {place})", self.id()),
            false => format!("{name} ({place})"),
        })
    }
}

fn place<H: Host>(storage: &Storage<H>) -> String {
    let view = if storage.is_view() { "a view of " } else { "" };
    format!("in {view}the store {}", storage.name())
}
