//! The kernel of Goblins: vats, turns, promises, and the commit path.
//!
//! It knows no language and no store: it reaches the one through [`host::Host`], the other through
//! [`store::Store`]. Actors live in vats; a vat handles one message at a time (a *turn*), all or nothing;
//! the turns that come of one outside message are a *churn*, and a churn is one batch in the store.
#![forbid(unsafe_code)]

pub mod actor;
pub mod churn;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod durability;
pub mod error;
pub mod event;
#[cfg(any(test, feature = "conformance"))]
pub mod faulty;
pub mod host;
pub mod ids;
pub mod job;
pub mod log;
mod lookback;
pub mod mailbox;
pub mod memory;
pub mod partial;
pub mod pool;
pub mod promise;
pub mod record;
pub mod recording;
mod release;
pub mod ring;
mod saving;
pub mod scheduling;
pub mod schema;
pub mod session;
pub mod storage;
pub mod store;
pub mod sync;
#[cfg(any(test, feature = "conformance"))]
pub mod toy;
mod turn;
pub mod vat;
pub mod waits;
mod watch;

pub use job::send_outside;
pub use partial::update_outside;
pub use release::{forward_outside, settle_outside, wait_outside};
pub use saving::Persistence;
pub use turn::Target;
