"""Durable objects in vats: one message at a time, all or nothing, on disk before anyone hears of it."""

import atexit as _atexit
import gc as _gc
from warnings import warn as _warn

from goblins import _errors, _goblins, _once, _threads
from goblins._actor import actor
from goblins._cells import cell, read_only, write_only
from goblins._class import Actor, field
from goblins._collections import List, Map, Set
from goblins._errors import (
    AccessDeniedError,
    BehaviorError,
    BrokenPromiseError,
    DeadlockError,
    DuplicateLabelError,
    EventLogError,
    FarCallError,
    GoblinsError,
    InboxFullError,
    MigrationError,
    NoLoopError,
    NoSuchActorError,
    NoSuchMethodError,
    NotPortableError,
    NoTurnError,
    PersistenceError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    UnknownLabelError,
    VatClosedError,
    VatTimeoutError,
)
from goblins._goblins import (
    AsyncioVat,
    Bcom,
    Constructor,
    ManualVat,
    MemoryStore,
    Methods,
    PersistableId,
    PersistenceRegistry,
    Portrayed,
    Promise,
    Ref,
    Resolver,
    RocksStore,
    Store,
    StorePart,
    Vat,
    methods,
    on,
    persistable_id,
    portraitize,
    promise_and_resolver,
    send,
    spawn,
    spawn_named,
    tell,
    vats,
)
from goblins._joiners import all_of, race
from goblins._log import Event, EventLog, EventTree
from goblins._migrations import Migrations, versioned
from goblins._outside import from_awaitable, to_thread
from goblins._persistence import PersistenceEnv, cell_env, spawn_persistent_vat
from goblins._registry import PendingReference
from goblins._rehearsing import Rehearsal, rehearse
from goblins._replacing import Replacement
from goblins._report import Problem, Report
from goblins._sleep import lru
from goblins._stores import CollectionReport, Copied, Generation, PartReport, copy_store
from goblins._upgrading import Upgrade
from goblins._watching import Watch, watch

__version__ = _goblins.__version__

__all__ = [
    "AccessDeniedError",
    "Actor",
    "AsyncioVat",
    "Bcom",
    "BehaviorError",
    "BrokenPromiseError",
    "CollectionReport",
    "Constructor",
    "Copied",
    "DeadlockError",
    "DuplicateLabelError",
    "Event",
    "EventLog",
    "EventLogError",
    "EventTree",
    "FarCallError",
    "Generation",
    "GoblinsError",
    "InboxFullError",
    "List",
    "ManualVat",
    "Map",
    "MemoryStore",
    "Methods",
    "MigrationError",
    "Migrations",
    "NoLoopError",
    "NoSuchActorError",
    "NoSuchMethodError",
    "NoTurnError",
    "NotPortableError",
    "PartReport",
    "PendingReference",
    "PersistableId",
    "PersistenceEnv",
    "PersistenceError",
    "PersistenceRegistry",
    "Portrayed",
    "Problem",
    "Promise",
    "Ref",
    "Rehearsal",
    "Replacement",
    "Report",
    "Resolver",
    "RocksStore",
    "Set",
    "Store",
    "StoreCorruptError",
    "StoreError",
    "StoreFullError",
    "StoreLockedError",
    "StorePart",
    "UnknownLabelError",
    "Upgrade",
    "Vat",
    "VatClosedError",
    "VatTimeoutError",
    "Watch",
    "actor",
    "all_of",
    "cell",
    "cell_env",
    "copy_store",
    "field",
    "from_awaitable",
    "lru",
    "methods",
    "on",
    "persistable_id",
    "portraitize",
    "promise_and_resolver",
    "race",
    "read_only",
    "rehearse",
    "send",
    "spawn",
    "spawn_named",
    "spawn_persistent_vat",
    "tell",
    "to_thread",
    "vats",
    "versioned",
    "watch",
    "write_only",
]

if not _goblins._OPTIMISED:
    _warn(
        "goblins was built without optimisation, and is some ten times slower: use it for debugging only",
        RuntimeWarning,
        stacklevel=2,
    )

if _once.is_first():
    _goblins._use_errors(_errors)
    _gc.callbacks.append(_goblins._collected)
    _atexit.register(_goblins._at_exit)
    # Called first: what it waits for may have news for the vats.
    _atexit.register(_threads.close)
