//! The kernel of Goblins: vats, turns, promises, and the commit path.
//!
//! It knows no language and no store: it reaches the one through [`host::Host`], the other through
//! [`store::Store`]. Actors live in vats; a vat handles one message at a time (a *turn*), all or nothing;
//! the turns that come of one outside message are a *churn*, and a churn is one batch in the store.
#![forbid(unsafe_code)]

pub mod actor;
mod awaited;
mod by_hand;
pub mod calling;
pub mod churn;
pub mod claim;
mod clock;
pub mod collecting;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod copying;
pub mod durability;
pub mod error;
pub mod event;
#[cfg(any(test, feature = "conformance"))]
pub mod faulty;
mod following;
pub mod fork;
pub mod history;
pub mod host;
pub mod ids;
pub mod job;
mod leaving;
pub mod log;
mod lookback;
pub mod mailbox;
pub mod memory;
mod naming;
pub mod overlay;
mod own_settlements;
pub mod pace;
pub mod partial;
mod parts;
mod persistence;
pub mod pool;
pub mod promise;
mod readahead;
pub mod record;
pub mod recording;
pub mod references;
pub mod registry;
pub mod rehearsing;
mod rehydrating;
mod release;
pub mod replacing;
pub mod residency;
pub mod ring;
mod saving;
pub mod scheduling;
pub mod schema;
pub mod session;
pub mod storage;
pub mod store;
mod stretch;
pub mod survey;
mod sweeping;
pub mod sync;
#[cfg(any(test, feature = "conformance"))]
pub mod toy;
pub mod trail;
mod turn;
pub mod upgrading;
pub mod upstream;
pub mod vat;
pub mod waits;
mod walk;
mod watch;
mod weaks;

pub use by_hand::SaveOn;
pub use job::send_outside;
pub use partial::update_outside;
pub use persistence::Persistence;
pub use release::{forward_outside, settle_outside, wait_outside};
pub use turn::Target;
