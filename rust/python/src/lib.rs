//! Python bindings of Goblins. They translate and decide nothing: policy lives in the core.

mod alike;
mod arguments;
mod asyncio;
mod attaching;
mod awaiting;
mod bcom;
mod behavior;
mod blocks;
mod build;
mod calls;
mod cbor;
mod class_actor;
mod collections;
mod collector;
mod containers;
mod contents;
mod contexts;
mod copies;
mod coroutine;
mod counter;
mod current;
mod docstrings;
mod elsewhere;
mod environment;
mod errors;
mod event_loop;
mod faces;
mod fields;
mod flatly;
mod handing_out;
mod held;
mod host;
mod identifiers;
mod inline;
mod interrupts;
mod joining;
mod kinds;
mod leaf;
mod listening;
mod log;
mod messages;
mod methods;
mod names;
mod once;
mod opening;
mod origin;
mod page_journal;
mod past;
mod portrait;
mod portrayed;
mod promise;
mod rebuilding;
mod records;
mod refs;
mod refusals;
mod registry;
mod rehearsing;
mod replacing;
mod resolver;
mod restore;
mod runtime;
mod saved;
mod sealed;
mod selves;
mod send;
mod shapes;
mod sharing;
mod sleep;
mod stack;
mod stores;
mod texts;
mod trail;
mod undoing;
mod unheard;
mod upkeep;
mod values;
mod vat;
mod wishes;

/// The compiled part of the package `goblins`.
// Without the GIL, what counts references and takes objects from the collector is not shown to be right.
#[pyo3::pymodule(gil_used = true)]
pub mod _goblins {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::bcom::{Bcom, Become};
    #[pymodule_export]
    use crate::behavior::{_constructor, Behavior, Constructor};
    #[pymodule_export]
    use crate::class_actor::{_fields_of, _guard_dict, ActorBase, ClassInfo};
    #[pymodule_export]
    use crate::collections::{
        _copied, _key_bytes, _page, _page_become, _page_damaged, _page_find, _page_most, _page_spawn,
        _register_collections, _weight, Collection,
    };
    #[pymodule_export]
    use crate::current::{_collecting, _in_turn};
    #[pymodule_export]
    use crate::errors::{_first_modules, _use_errors};
    #[pymodule_export]
    use crate::identifiers::{PersistableId, persistable_id};
    #[pymodule_export]
    use crate::joining::{_all_of, _race};
    #[pymodule_export]
    use crate::listening::on;
    #[pymodule_export]
    use crate::log::{_vat, Event, Log, vats};
    #[pymodule_export]
    use crate::messages::BoundMessage;
    #[pymodule_export]
    use crate::methods::{Methods, methods};
    #[pymodule_export]
    use crate::opening::Opening;
    #[pymodule_export]
    use crate::page_journal::{_page_back, _page_done, _page_stands};
    #[pymodule_export]
    use crate::portrayed::{Portrayed, portraitize};
    #[pymodule_export]
    use crate::promise::Promise;
    #[pymodule_export]
    use crate::records::RecordClass;
    #[pymodule_export]
    use crate::refs::Ref;
    #[pymodule_export]
    use crate::registry::Registry;
    #[pymodule_export]
    use crate::rehearsing::Rehearsal;
    #[pymodule_export]
    use crate::replacing::{_constructors, _find_unfit, _next_stored, _outdated, _renew, _replace, _to_walk};
    #[pymodule_export]
    use crate::resolver::{_collected, Resolver, promise_and_resolver};
    #[pymodule_export]
    use crate::runtime::{_at_exit, _check_process};
    #[pymodule_export]
    use crate::saved::ContainerField;
    #[pymodule_export]
    use crate::send::{send, spawn, spawn_named, tell};
    #[pymodule_export]
    use crate::stores::{MemoryStore, RocksStore, Store, StorePart};
    #[pymodule_export]
    use crate::upkeep::_copy_store;
    #[pymodule_export]
    use crate::values::{_decode, _encode};
    #[pymodule_export]
    use crate::vat::{AsyncioVat, ManualVat, Vat};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::build::check_processor()?;
        crate::runtime::refuse_subinterpreter(module.py())?;
        crate::runtime::watch_forks();
        crate::unheard::install(module.py());
        crate::docstrings::hand_out(module)?;
        crate::messages::complete(module.py())?;
        crate::resolver::install(module.py());
        module.add("__version__", crate::build::VERSION)?;
        module.add("_OPTIMISED", crate::build::OPTIMISED)
    }
}
