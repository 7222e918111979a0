"""The compiled part of the package: actors, promises, vats and stores."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine, Generator, Iterable
from collections.abc import Set as AbstractSet
from os import PathLike
from pathlib import Path
from types import GenericAlias, ModuleType, TracebackType
from typing import Any, Concatenate, Generic, Literal, NoReturn, ParamSpec, Self, TypeVar, final, overload

from typing_extensions import disjoint_base

from goblins._log import EventLog
from goblins._persistence import PersistenceEnv
from goblins._registry import PendingReference
from goblins._replacing import Replacement
from goblins._stores import CollectionReport, Generation
from goblins._upgrading import Upgrade

__all__ = [
    "_OPTIMISED",
    "AsyncioVat",
    "Bcom",
    "Become",
    "Behavior",
    "BoundMessage",
    "Constructor",
    "ManualVat",
    "MemoryStore",
    "Methods",
    "PersistableId",
    "PersistenceRegistry",
    "Portrayed",
    "Promise",
    "Ref",
    "Resolver",
    "RocksStore",
    "Store",
    "StorePart",
    "Vat",
    "_ActorBase",
    "_ClassInfo",
    "_Collection",
    "_ContainerField",
    "_Event",
    "_Log",
    "_Opening",
    "_RecordClass",
    "_Rehearsal",
    "__version__",
    "_at_exit",
    "_check_process",
    "_constructor",
    "_constructors",
    "_copied",
    "_copy_store",
    "_decode",
    "_encode",
    "_fields_of",
    "_find_unfit",
    "_first_modules",
    "_in_turn",
    "_key_bytes",
    "_outdated",
    "_page",
    "_page_become",
    "_page_damaged",
    "_page_find",
    "_page_most",
    "_page_spawn",
    "_register_collections",
    "_renew",
    "_replace",
    "_to_walk",
    "_use_errors",
    "_vat",
    "_weight",
    "methods",
    "on",
    "persistable_id",
    "portraitize",
    "promise_and_resolver",
    "send",
    "spawn",
    "spawn_named",
    "tell",
    "vats",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_U = TypeVar("_U")
_V = TypeVar("_V")
_A = TypeVar("_A", bound=_ActorBase)
_T_co = TypeVar("_T_co", covariant=True)

@final
class Bcom:
    """The right to change one actor's behavior: its constructor's first argument (ACT-07).

    Idea: the "become" of the actor model, as in Spritely Goblins.
    """

    @overload
    def __call__(self, behavior: Any, value: _T, /) -> _T:
        """Makes a token that the actor returns to become something else within its turn.

        Args:
            behavior: what a constructor returns: a callable, or ``methods(...)``.
            value: what the caller of the actor gets.

        Returns:
            The token, typed as the value that it stands for. It changes the actor, and no other, when the
            actor returns it.

        Raises:
            BehaviorError: ``behavior`` is none.
        """

    @overload
    def __call__(self, behavior: Any, value: None = None, /) -> None: ...

@final
class Become:
    """What ``bcom`` gives. It counts when its actor returns it, and is worth nothing to others."""

@final
class Behavior:
    """What a constructor made with ``@actor`` returns: the code, and the call that it came from (POR-09)."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the code: for a constructor that hands on the behavior of another."""

@final
class Constructor:
    """What ``@actor`` makes of a function: its actors know their portrait (POR-09)."""

    __name__: str
    __wrapped__: Callable[..., Any]
    @property
    def label(self) -> str | None:
        """The label given with ``@actor(label=...)``, or None."""

    @property
    def version(self) -> Any:
        """The version given with ``@actor(version=...)``; 0 without one."""

    @property
    def upgrade(self) -> Any:
        """What was given with ``@actor(upgrade=...)``, or None."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Makes a behavior: to be given to ``bcom``, or returned by another constructor."""

@final
class Portrayed:
    """A behavior with a portrait made by hand: see ``portraitize``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the code: for a constructor that hands on the behavior of another."""

@final
class Methods:
    """A behavior made of named functions: see ``methods``."""

@final
class BoundMessage:
    """``ref.method``: call it, or give it to ``send`` or ``tell``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A synchronous call of the method: see ``Ref``."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self, /) -> int: ...

@final
class Ref:
    """The capability to send to an actor. There is one ``Ref`` per actor: compare with ``is`` or ``==``.

    ``ref(...)`` and ``ref.method(...)`` are synchronous: inside a turn of the same vat a plain call (SYN-01);
    from a thread that is in no turn, one turn of its own, run on this thread, durable when it returns. Inside
    a turn of another vat they raise FarCallError: use ``send``.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the actor, and returns what it answers.

        Raises:
            FarCallError: this is a turn of another vat.
            NoSuchActorError: the turn that spawned the actor was undone.
            VatClosedError: the vat is closed.
            PersistenceError: the vat has stopped, since its store failed.
        """

    def __getattribute__(self, name: str, /) -> Any: ...

@final
class Promise(Generic[_T_co]):
    """A value that is still to come.

    ``await`` it in any loop of asyncio or trio, wait with ``result``, or listen with ``on`` inside a turn.
    ``promise(...)`` and ``promise.method(...)`` call what a settled one stands for (SYN-04 to SYN-06). Give
    the promise, or its method, to ``send`` to send a message on to what it will stand for (ASY-29).
    """

    def result(self, timeout: float | None = None) -> _T_co:
        """Waits for the outcome, outside of all turns.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Returns:
            The value.

        Raises:
            BaseException: the error that broke the promise.
            TimeoutError: it has not settled in time; it still may.
            DeadlockError: this is a turn, which the promise may have to wait for; or this thread runs an
                event loop that has to go on for the promise to settle.
        """

    def __await__(self) -> Generator[Any, None, _T_co]: ...
    def __getitem__(self, key: Any, /) -> Promise[Any]:
        """The promise of a part of the value: ``promise["key"]``, ``promise[0]`` (ASY-37).

        It breaks with what ``value[key]`` raises, and with TypeError if the value is an actor.
        """

    def __iter__(self) -> NoReturn: ...
    def __reversed__(self) -> NoReturn: ...
    def __contains__(self, item: Any, /) -> NoReturn: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __getattribute__(self, name: str, /) -> Any: ...
    @classmethod
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...
    def _subscribe(self, settled: Callable[[Any, BaseException | None], object]) -> None: ...
    def _unsubscribe(self, settled: Callable[[Any, BaseException | None], object]) -> None: ...

@final
class Resolver:
    """The right to settle a promise. Only the first settlement counts (ASY-10)."""

    def fulfil(self, value: Any) -> None:
        """Settles the promise with a value; with another promise, it will settle as that one does (ASY-13).

        In a turn it happens at the end, if the turn succeeds.
        """

    def break_(self, error: Any) -> None:
        """Breaks the promise with an exception; any other value becomes the ``problem`` of a
        BrokenPromiseError (ASY-17). In a turn it happens at the end, if the turn succeeds.
        """

    def update(self, value: Any) -> None:
        """Tells those who listen with ``on(promise, partial=...)`` of a value before the promise settles,
        such as how far some work has come (ASY-29). It reaches promises that wait for this one, too.

        In a turn it happens at the end, if the turn succeeds. After the settlement it does nothing.
        """

@final
class _ClassInfo:
    def __new__(
        cls,
        name: str,
        label: str | None,
        version: Any,
        fields: list[str],
        methods: dict[str, Any],
        default: Callable[[str], Any],
        restored: Callable[[Any], object] | None,
        guarded: AbstractSet[str],
        upgrade: Any,
        needs: list[str],
        caches: frozenset[str],
    ) -> Self: ...
    @property
    def upgrade(self) -> Any: ...
    @property
    def label(self) -> str | None: ...
    @property
    def version(self) -> Any: ...
    @property
    def fields(self) -> list[str]: ...

@final
class _ContainerField:
    def __new__(cls, name: str) -> Self: ...
    def __get__(self, instance: Any, owner: Any = None, /) -> Any: ...
    def __set__(self, instance: Any, value: Any, /) -> None: ...
    def __delete__(self, instance: Any, /) -> None: ...

@disjoint_base
class _Collection:
    """The parent of Map, List and Set: which one it is, and the page that leads to all others."""

    def __new__(cls, root: Ref, kind: int) -> Self: ...
    @property
    def _root(self) -> Ref: ...
    def _is_near(self) -> bool: ...
    def _run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any: ...

def _register_collections(
    make: Callable[[int, Ref], Any], known: dict[str, Constructor | type[_ActorBase]]
) -> None: ...
def _page(page: Ref, kind: Constructor | None = None, /) -> tuple[Any, ...]: ...
def _page_damaged(page: Ref, reason: str) -> Exception: ...
def _page_most(page: Ref) -> int: ...
def _page_find(
    node: Constructor, top: Ref, levels: int, number: int, relative: bool, /
) -> tuple[list[Ref], list[int], Ref, int]: ...
def _page_become(page: Ref, /, *state: Any) -> None: ...
def _page_spawn(constructor: Constructor, /, *state: Any) -> Ref: ...
def _copied(value: _T) -> _T: ...
def _fields_of(instance: _ActorBase) -> dict[str, Any]: ...
def _weight(value: Any) -> int: ...
def _key_bytes(key: Any) -> bytes | None: ...

@disjoint_base
class _ActorBase:
    """The parent of ``Actor``, and what it has from there."""

    @property
    def ref(self) -> Self:
        """The reference that others have to this actor; typed as the actor itself, as ``spawn`` does it.

        Raises:
            NoTurnError: this instance was not spawned.
        """

    @overload
    def become(self, other: Any, value: _T, /) -> _T:
        """Makes a token that a method returns to become another actor within its turn (ACT-07).

        Args:
            other: an instance of a class of actors, or what a constructor returns.
            value: what the caller of the method gets.

        Returns:
            The token, typed as the value that it stands for.

        Raises:
            BehaviorError: ``other`` is no behavior.
            NoTurnError: this instance was not spawned.
        """

    @overload
    def become(self, other: Any, value: None = None, /) -> None: ...

@disjoint_base
class Vat:
    """An event loop with its actors: it handles one message at a time, each all or nothing (VAT-01).

    No thread belongs to it: whoever brings work to an idle vat runs it, and a small pool runs vats that have
    messages and nobody inside. ``with vat:`` makes what stands in the block one turn.

    Args:
        name: for messages and logs; without one it is called after its number.
        log: record events, from the start: see ``vat.log``.
        log_capacity: how many the log holds; the oldest are dropped (LOG-09).
        inbox_limit: how many messages may wait; None for any number. At the limit a sender outside of turns
            waits, and one in a turn of another vat gets InboxFullError (LIM-32).
        slow_turn: seconds, more than 0, that a turn may take before it is logged with its stack; None for any
            time.

    Raises:
        ValueError: a number is out of range, or the name can't be written.
    """

    def __new__(
        cls,
        name: str | None = None,
        *,
        log: bool = False,
        log_capacity: int = 256,
        inbox_limit: int | None = None,
        slow_turn: float | None = 1.0,
        _opening: _Opening | None = None,
    ) -> Self: ...
    def __init__(
        self,
        name: str | None = None,
        *,
        log: bool = False,
        log_capacity: int = 256,
        inbox_limit: int | None = None,
        slow_turn: float | None = 1.0,
        _opening: _Opening | None = None,
    ) -> None: ...
    @property
    def inbox_limit(self) -> int | None:
        """How many messages may wait; None for any number. Can be set."""

    @inbox_limit.setter
    def inbox_limit(self, limit: int | None) -> None: ...
    @property
    def slow_turn(self) -> float | None:
        """How many seconds a turn may take before it is logged; None for any time. Can be set."""

    @slow_turn.setter
    def slow_turn(self, limit: float | None) -> None: ...
    @property
    def backlog(self) -> int:
        """How many messages wait."""

    @property
    def awake(self) -> int | None:
        """How many stored actors were awake after the last churn; None for a vat without a store (SLP-01).

        An actor is awake while its behavior is in memory; one that sleeps, or was not used since the vat was
        opened, is a ``Ref`` at most. See ``lru``.
        """

    @property
    def id(self) -> int:
        """Its number among the vats of this process, from 0 (VAT-02)."""

    @property
    def log(self) -> EventLog:
        """Its event log (LOG-12)."""

    def open(self) -> None:
        """Opens a closed vat again; its actors are as they were (VAT-17). An open one stays as it is.

        Raises:
            PersistenceError: the vat lives in a store: open it from there.
        """

    @property
    def name(self) -> str:
        """The name."""

    @property
    def closed(self) -> bool:
        """Whether it is closed, or about to be."""

    def run(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Calls a function as one turn, with all that comes of it, on this thread.

        Returns:
            What the function returned, when what it did is durable.

        Raises:
            BaseException: what the function raised: nothing of the turn has happened.
            FarCallError: this is a turn of another vat.
            VatClosedError: the vat is closed.
        """

    @overload
    def spawn(self, constructor: Constructor, /, *args: Any, **kwargs: Any) -> Ref:
        """Makes an actor here, in a turn of its own: see ``spawn``."""

    @overload
    def spawn(  # type: ignore[overload-overlap]
        self, constructor: Callable[_P, _A], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _A: ...
    @overload
    def spawn(
        self, constructor: Callable[Concatenate[Bcom, _P], object], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Ref: ...
    def drain(self, timeout: float | None = None) -> None:
        """Waits until the vat has nothing left to do.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            VatTimeoutError: it has not come to rest in time.
            DeadlockError: this is a turn.
        """

    def save(self) -> None:
        """Writes all that has changed since the last save, in one batch, and returns when it is durable.

        That is for vats opened with ``persist_on="manual"``. Another vat with a store saves by itself after
        each churn: then this waits until all that it did is durable.

        Raises:
            PersistenceError: the vat has no store (PV-20).
            StoreError: the store failed: the vat has stopped; in the store is the save before, or this one.
            DeadlockError: this is a turn.
        """

    def save_async(self) -> Coroutine[Any, Any, None]:
        """As ``save``, for coroutines: while the disk is busy, the loop goes on.

        Raises: as ``save``.
        """

    def _save_soon(self) -> None: ...
    def replace_behavior(
        self,
        env: PersistenceEnv | None = None,
        *,
        only: str | Callable[..., Any] | Iterable[str | Callable[..., Any]] | None = None,
        dry_run: bool = False,
    ) -> Replacement:
        """Gives the actors new code behind the same Refs, in one turn, saved as one batch (HOT-01 to HOT-13).

        An actor gets new code if its label stands for another constructor in the new environment, which the
        vat uses from then on, also for saving. Its portrait is taken by the old code, and made again by the
        new code, with ``upgrade=`` and ``restore=`` as at a restart. Actors that are not in memory get the
        new code when they are first used. If anything fails, nothing has changed.

        A behavior that waits for a promise goes on with the old code: it sees the state as it was when the
        actor was replaced, and if it changes that state, or becomes something, its turn fails.

        In a vat without a store, actors are replaced whose state could be stored; others are left alone, and
        named in the report.

        Args:
            env: the new environment; None for the labels of the present one, with each constructor looked up
                again in its module, under its name: after ``importlib.reload``, or after a cell of a
                notebook ran again.
            only: a label or a constructor, or several: all others stay as they are.
            dry_run: do all of it, report, and take all of it back: the report then names all problems.

        Returns:
            How many actors in memory were replaced and left alone, by label. Labels that stored actors have
            and the new environment does not are unknown: their actors go on as they are.

        Raises:
            MigrationError: stored actors can't be made by the new code: see ``spawn_persistent_vat``.
            UnknownLabelError: ``only`` names what is not in the environment.
            BaseException: what the code of an actor raised, with a note that names the actor.
            PersistenceError: ``env`` was given, and the vat has no store (HOT-08).
            DeadlockError: this is a turn.
        """

    def upgrade_all(
        self, progress: Callable[[int, int], object] | bool | None = None, batch: int = 1000
    ) -> Upgrade:
        """Finishes upgrades (MIG-08): all stored actors that have not been used since their code has changed
        are made, and stored as they are today, with the version, label and fields of their constructor.

        It goes in batches, each a churn of its own; other threads may use the vat in between. Begun again
        after an interruption, it goes on with what is left. The memory does not grow with the number of
        actors; but where ``persist_on="manual"``, all that was upgraded waits there for ``save()``.

        Args:
            progress: called with the number of actors done and the number of all, after each batch; True for
                a bar on the terminal.
            batch: how many actors are upgraded in one churn at most. Larger ones make less work, and other
                callers wait longer.

        Returns:
            How many were upgraded, by the label that they had before; and those that failed, which stay as
            they were (each is logged, too).

        Raises:
            PersistenceError: the vat has no store, or has stopped.
            DeadlockError: this is a turn.
        """

    @property
    def _env(self) -> PersistenceEnv | None: ...
    def _try_out(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T: ...
    def close(self) -> None:
        """Closes the vat: the running turn ends, messages that wait are broken with VatClosedError.

        A vat opened with ``persist_on="manual"`` is not saved by that; if changes get lost, it is logged.
        Closing twice does nothing. Raises DeadlockError in a turn.
        """

    @overload
    def run_async(
        self, function: Callable[_P, Coroutine[Any, Any, _T]], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, _T]:
        """As ``run``, for coroutines: while the vat is busy, or the disk, the loop goes on.

        The turn runs where the messages of the vat do: on a worker thread of goblins; in an ``AsyncioVat`` on
        its loop; in a ``ManualVat`` at once, on a thread of its own. A waiter that is cancelled leaves the
        turn to go on.

        Returns:
            What the function returned, when what it did is durable; for a promise, or a function that is
            ``async``, what comes of it.

        Raises:
            BaseException: what the function raised: nothing of the turn has happened.
            DeadlockError: this is a turn: use ``send``.
            VatClosedError: the vat is closed.
        """

    @overload
    def run_async(
        self, function: Callable[_P, Promise[_T]], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, _T]: ...
    @overload
    def run_async(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, _T]: ...
    def drain_async(self, timeout: float | None = None) -> Coroutine[Any, Any, None]:
        """As ``drain``, for coroutines: does not block the loop.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            VatTimeoutError: it has not come to rest in time.
            DeadlockError: this is a turn.
            VatClosedError: the vat is closed.
        """

    def close_async(self) -> Coroutine[Any, Any, None]:
        """As ``close``, for coroutines: closes on a thread of its own, and does not block the loop.

        If the waiter is cancelled, the closing goes on. Raises DeadlockError in a turn.
        """

    def __aenter__(self) -> Coroutine[Any, Any, Self]:
        """``async with`` is about the life of the vat: it is closed at the end, as by ``close_async``.

        It is no turn; for one use ``with vat:`` or ``run_async``. A waiter that is cancelled is so once
        the vat is closed.
        """

    def __aexit__(self, *_error: object) -> Coroutine[Any, Any, Literal[False]]: ...
    @property
    def _loop(self) -> Any: ...
    def _run_later(self, function: Callable[[None], _T]) -> Promise[_T]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
        /,
    ) -> Literal[False]: ...

class ManualVat(Vat):
    """A vat whose messages wait until somebody calls for them: for tests that want to see each step (VAT-06).

    Synchronous calls from outside are turns at once, as in every vat; they leave the messages waiting.
    """

    def step(self) -> bool:
        """Handles the message that has waited longest, and the near ones that come of it.

        Returns:
            False if there was none.
        """

class AsyncioVat(Vat):
    """A vat whose turns run on an event loop of asyncio (VAT-06).

    Synchronous calls from other threads run there too, while the caller waits; ``with vat:`` works on the
    thread of the loop only.

    Args:
        loop: the loop; without one, that which runs on this thread.
        name, log, log_capacity, inbox_limit, slow_turn: see ``Vat``.

    Raises:
        RuntimeError: no loop was given, and none runs on this thread.
    """

    # What `__init__` gets, it takes no heed of.
    def __new__(  # pyright: ignore[reportInconsistentConstructor]
        cls,
        loop: AbstractEventLoop | None = None,
        name: str | None = None,
        *,
        log: bool = False,
        log_capacity: int = 256,
        inbox_limit: int | None = None,
        slow_turn: float | None = 1.0,
        _opening: _Opening | None = None,
    ) -> Self: ...

@disjoint_base
class Store:
    """A place where portraits live: a ``MemoryStore`` or a ``RocksStore``."""

    def vat(self, name: str) -> StorePart:
        """The part with this name: give it to ``spawn_persistent_vat`` to keep several vats in one store."""

    def vats(self) -> list[str]:
        """Names of the parts that hold a vat, in order. Raises StoreError."""

    def collect(self, progress: Callable[[str, int, int], object] | None = None) -> CollectionReport:
        """Removes the stored actors that no root reaches, and gives back their room (LIM-07, STO-15).

        Only the slots that records refer to are read, and no code of yours is run. Vats go on meanwhile; each
        is stopped for moments. A live ``Ref`` of a vat that is open keeps its actor, and all that this one
        reaches. What is cut off in the middle, also by ``kill -9``, has done no harm: the next collection
        begins anew.

        Stores collect by themselves, in the background, once they have given out half as many slots as actors
        were kept the last time, and 10,000 at least; ``auto_collect=False`` switches that off.

        Args:
            progress: called as ``progress(phase, done, total)`` in between, with ``"marking"``,
                ``"sweeping"`` or ``"compacting"``, and numbers of records; ``total`` is the most that there
                can be. An error that it raises ends the collection, and is raised here.

        Returns:
            What was kept and removed in each part, and how long it took.

        Raises:
            StoreCorruptError: a record is damaged; nothing more was removed.
            StoreError: the store failed, or was closed meanwhile.
            DeadlockError: this is a turn, or the ``progress`` of a collection of this store.
        """

    def close(self) -> None:
        """Closes the vats that live here, then the store. Closing twice does nothing. A collection that runs
        is ended. Views of older generations are closed too, with their vats.

        Raises:
            StoreError: what was not durable before could not be made so.
            DeadlockError: this is a turn.
        """

    def __enter__(self) -> Self: ...
    def __exit__(self, *_error: object) -> Literal[False]: ...
    def __aenter__(self) -> Coroutine[Any, Any, Self]:
        """As ``with``, for coroutines: the store is closed at the end, on a thread of its own, so that the
        loop goes on. A waiter that is cancelled is so once the store is closed.
        """

    def __aexit__(self, *_error: object) -> Coroutine[Any, Any, Literal[False]]: ...

@final
class MemoryStore(Store):
    """A store that lives as long as this object: for tests.

    Args:
        keep_generations: how many older states of each part can be looked at (``StorePart.at``); 0: none. A
            churn costs a little more for it, and the store keeps what the last so many churns have replaced
            (LIM-13).
        auto_collect: collect in the background when the store has grown (``Store.collect``).
    """

    def __new__(cls, *, keep_generations: int = 100, auto_collect: bool = True) -> Self: ...

@final
class RocksStore(Store):
    """A store in a folder, kept by RocksDB.

    Args:
        path: the folder; it is made if it is missing.
        sync: whether results wait until the disk has what they depend on (RocksDB's ``sync`` of the log).
            Without it they wait until the system has it: that survives ``kill -9``, not a loss of power.
        keep_generations: how many older states of each part can be looked at (``StorePart.at``). Each churn
            then writes beside its records what these replace, and removes the oldest of that. It may change
            between
            openings: fewer are kept from the next churn on; with 0 all are removed by the next churn.
        auto_collect: collect in the background when the store has grown (``Store.collect``).

    Raises:
        StoreLockedError: another process, or another object of this one, has the store open.
        StoreError: the path is a file, not writable, holds other files, or a store of a newer format.
    """

    def __new__(
        cls,
        path: str | PathLike[str],
        *,
        sync: bool = True,
        keep_generations: int = 0,
        auto_collect: bool = True,
    ) -> Self: ...
    @staticmethod
    def _open_read_only(path: str | PathLike[str]) -> RocksStore: ...
    @property
    def path(self) -> Path:
        """The folder."""

    @property
    def sync(self) -> bool:
        """Whether results wait until the disk has them."""

@final
class StorePart:
    """A named part of a store: the place of one vat."""

    @property
    def store(self) -> Store:
        """The store."""

    @property
    def name(self) -> str:
        """The name."""

    def generations(self) -> list[Generation]:
        """The states of this part that can be looked at, the oldest first (STO-09).

        Each churn that changed something makes one. The last of them is what the part is now. Empty if the
        store keeps none, or nothing was stored yet. Raises StoreError.
        """

    def at(self, generation: int) -> StorePart:
        """The part as it was at an older generation (STO-14).

        ``spawn_persistent_vat`` opens it, also while a vat lives in the part itself. What is written there
        stays in memory and goes with the view. It ends with the store, or with the view's own
        ``store.close()``, or when nothing refers to it any more.

        Args:
            generation: the number of one of ``generations()``.

        Raises:
            StoreError: that generation is not kept; the message names those that are.
            StoreCorruptError: what leads back there is damaged.
        """

@final
class PersistenceRegistry:
    """Joins the vats of several stores, so that references between them come back (REG-01).

    Give one to each ``spawn_persistent_vat``, in any order (REG-05). A vat that is opened again takes the
    place of the closed one; what is asked of a vat that is not open waits until it is. Vats of one store need
    no registry.
    """

    def __new__(cls) -> Self: ...
    def vats(self) -> list[str]:
        """The names of the vats that are open, in order."""

    def pending(self) -> list[PendingReference]:
        """The references that wait for a vat which is not open, in the order of ids and slots (REG-06)."""

    def __len__(self) -> int:
        """How many vats are open."""

    def __bool__(self) -> bool: ...

@final
class PersistableId:
    """The name of an actor of a persistent vat: equal for the same actor, also after a restart (OID-02).

    It can be stored, and can be a key (OID-03). It gives no access to the actor (OID-04).
    """

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

def persistable_id(actor: Any) -> PersistableId:
    """The name of an actor that stays the same over restarts (OID-01).

    Args:
        actor: a Ref of an actor of a persistent vat.

    Raises:
        TypeError: it is no Ref; a promise has none, though what it becomes may (OID-07).
        PersistenceError: the actor's vat has no store (OID-06).
    """

@overload
def spawn(constructor: Constructor, /, *args: Any, **kwargs: Any) -> Ref:
    """Makes an actor in the vat whose turn this is (ACT-01).

    Args:
        constructor: a class of actors, made with these arguments; or a callable that takes ``bcom`` first,
            then these, and returns the behavior: a callable, or ``methods(...)``. One that returns a Ref
            gives that (ACT-04).

    Returns:
        The actor's Ref. For a class it is typed as an instance, so that calls of its methods are checked.

    Raises:
        NoTurnError: this thread is in no turn: use ``vat.spawn`` or ``with vat:``.
        BehaviorError: the constructor returned neither behavior nor Ref (ACT-05).
    """

@overload
def spawn(  # type: ignore[overload-overlap]
    constructor: Callable[_P, _A], /, *args: _P.args, **kwargs: _P.kwargs
) -> _A: ...
@overload
def spawn(
    constructor: Callable[Concatenate[Bcom, _P], object], /, *args: _P.args, **kwargs: _P.kwargs
) -> Ref: ...
@overload
def spawn_named(name: str, constructor: Constructor, /, *args: Any, **kwargs: Any) -> Ref:
    """As ``spawn``, with a name of its own in messages, kept in the store (ACT-15)."""

@overload
def spawn_named(  # type: ignore[overload-overlap]
    name: str, constructor: Callable[_P, _A], /, *args: _P.args, **kwargs: _P.kwargs
) -> _A: ...
@overload
def spawn_named(
    name: str, constructor: Callable[Concatenate[Bcom, _P], object], /, *args: _P.args, **kwargs: _P.kwargs
) -> Ref: ...
def methods(*, extends: Any = None, **named: Callable[..., Any]) -> Methods:
    """Makes a behavior that answers ``ref.name(...)`` with the function given as ``name`` (LIB-05).

    Args:
        extends: answers to all other names: another ``methods(...)``; an actor, which is called if it is near
            and sent to if it is far; or a function that gets the name before the arguments.

    Raises:
        TypeError: one is not callable, or its name starts with an underscore.
    """

def portraitize(
    behavior: Any, portrait: Callable[[], Any], /, *, constructor: Callable[..., Any] | None = None
) -> Portrayed:
    """Gives a behavior a portrait that is made by hand, for constructors without ``@actor`` (POR-22).

    The constructor stands in an environment by its label, perhaps with a rehydrator:
    ``PersistenceEnv({"bank.till": (till, restore_till)})``.

    Args:
        behavior: what the constructor would return otherwise: a callable, or ``methods(...)``.
        portrait: called when the actor is stored; returns fields in a dict, or arguments in a tuple, in the
            order of the constructor's parameters, or ``versioned(...)``. It may call near actors; what it
            changes is not kept.
        constructor: whose behavior it is, and so which label is stored. Without it, that is the one which was
            spawned; an actor that becomes such a behavior keeps the label that it has.

    Returns:
        The behavior with the portrait, for the constructor to return.

    Raises:
        BehaviorError: ``behavior`` is none, or has a portrait already.

    Idea: ``portraitize`` of Spritely Goblins.
    """

@overload
def send(
    target: Callable[_P, Coroutine[Any, Any, _T]], /, *args: _P.args, **kwargs: _P.kwargs
) -> Promise[_T]:
    """Sends a message; the actor handles it in a later turn (ASY-01).

    Args:
        target: a Ref, ``ref.method``, a promise or ``promise.method`` (ASY-29).

    Returns:
        The promise of the answer. In a turn the message goes out at the end, if the turn succeeds.

    Raises:
        BehaviorError: the target is none of these (ASY-03).
    """

@overload
def send(target: Callable[_P, Promise[_T]], /, *args: _P.args, **kwargs: _P.kwargs) -> Promise[_T]: ...
@overload
def send(target: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Promise[_T]: ...
def tell(target: Callable[_P, object], /, *args: _P.args, **kwargs: _P.kwargs) -> None:
    """As ``send``, for a message of which nobody wants the answer: an error is logged (ASY-02)."""

@overload
def on(
    promise: Promise[_T],
    fulfilled: Callable[[_T], Coroutine[Any, Any, _U] | Promise[_U]],
    *,
    catch: None = None,
    finally_: Callable[[], object] | None = None,
    partial: Callable[[Any], object] | None = None,
) -> Promise[_U]:
    """Calls a handler in a later turn of this vat, once a promise has settled (ASY-19 to ASY-26).

    Args:
        promise: a promise, or any value: that is as good as a promise which has it.
        fulfilled: gets the value; without it the value goes through.
        catch: gets the error; without it the error goes through.
        finally_: called in both cases, after the others.
        partial: gets each value of ``resolver.update(...)``, in a turn of its own, and first the newest one
            that there was before; nothing after the promise has settled (ASY-29). Its error is logged.

    Returns:
        The promise of what the handler gives.

    Raises:
        NoTurnError: this thread is in no turn.
        TypeError: a handler is not callable.
    """

@overload
def on(
    promise: Promise[_T],
    fulfilled: Callable[[_T], _U],
    *,
    catch: None = None,
    finally_: Callable[[], object] | None = None,
    partial: Callable[[Any], object] | None = None,
) -> Promise[_U]: ...
@overload
def on(
    promise: Promise[_T],
    fulfilled: Callable[[_T], _U],
    *,
    catch: Callable[[Any], _V],
    finally_: Callable[[], object] | None = None,
    partial: Callable[[Any], object] | None = None,
) -> Promise[_U | _V]: ...
@overload
def on(
    promise: Promise[_T],
    fulfilled: None = None,
    *,
    catch: Callable[[Any], _V],
    finally_: Callable[[], object] | None = None,
    partial: Callable[[Any], object] | None = None,
) -> Promise[_T | _V]: ...
@overload
def on(
    promise: Promise[_T],
    fulfilled: None = None,
    *,
    catch: None = None,
    finally_: Callable[[], object] | None = None,
    partial: Callable[[Any], object] | None = None,
) -> Promise[_T]: ...
def promise_and_resolver() -> tuple[Promise[Any], Resolver]:
    """Makes a promise and the right to settle it (ASY-09)."""

def vats() -> list[Vat]:
    """The vats of this process that are in memory, closed ones too, the oldest first (VAT-03)."""

@final
class _Log:
    capacity: int
    enabled: bool
    @property
    def vat(self) -> Vat: ...
    def clear(self) -> None: ...
    def span(self) -> tuple[int, int]: ...
    def events(self, start: int, stop: int) -> list[_Event]: ...
    def find(self, time: int) -> _Event | None: ...
    def effects(self, vat: int | None, time: int) -> list[_Event]: ...
    def peek(
        self, sequence: int, before: bool, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> Any: ...

@final
class _Event:
    @property
    def sequence(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def churn(self) -> int: ...
    @property
    def turn(self) -> int: ...
    @property
    def time(self) -> int: ...
    @property
    def cause(self) -> tuple[int, int] | None: ...
    @property
    def actor(self) -> Ref | None: ...
    @property
    def title(self) -> str | None: ...
    @property
    def actor_vat(self) -> str | None: ...
    @property
    def method(self) -> str | None: ...
    @property
    def error(self) -> BaseException | None: ...
    @property
    def wall(self) -> int: ...
    @property
    def began(self) -> int: ...
    @property
    def duration(self) -> int | None: ...

def _vat(id: int) -> Vat | None: ...
def _constructor(
    function: Callable[..., Any],
    name: str,
    label: str | None,
    parameters: list[tuple[str, str, bool, Any]],
    version: Any,
    upgrade: Any,
    portrait: Any,
    restore: Any,
    hidden: tuple[str, str] | None,
) -> Constructor: ...

@final
class _Opening:
    def __new__(
        cls,
        env: PersistenceEnv,
        store: Store,
        part: str,
        sleep: tuple[int | None, int | None] = ...,
        registry: PersistenceRegistry | None = None,
        by_hand: bool = False,
    ) -> Self: ...
    def roots(self, vat: Vat, spawn_roots: Callable[[], Any], version: Any, upgrade: Any) -> list[Ref]: ...

@final
class _Rehearsal:
    def __new__(cls, env: PersistenceEnv, store: Store, part: str) -> Self: ...
    @property
    def stored(self) -> bool: ...
    def version(self) -> Any: ...
    def roots(self, version: Any, upgrade: Any, body: Callable[..., object] | None) -> bool: ...
    def extent(self) -> tuple[int, int]: ...
    def walk(
        self, first: int, end: int, body: Callable[[str, Ref], object] | None
    ) -> tuple[dict[str, Any], list[tuple[str, int, BaseException]], dict[str, tuple[int, int]]]: ...
    def close(self) -> None: ...

@final
class _RecordClass:
    def __new__(
        cls,
        name: str,
        kind: str,
        class_: type,
        fields: list[str],
        slots: list[str],
        ignored: list[str],
        mutable: bool,
        default: Callable[[Any, str], Any],
        members: dict[str, Any],
    ) -> Self: ...
    @property
    def name(self) -> str: ...
    @property
    def record(self) -> type: ...

def _copy_store(source: Store, target: Store) -> tuple[int, int, int]: ...
def _encode(value: Any) -> bytes:
    """The bytes that a value is stored as: CBOR. It may hold no refs and no records.

    Raises:
        NotPortableError: it can't be stored.
    """

def _decode(bytes: bytes) -> Any:
    """The value that bytes of ``_encode`` stand for.

    Raises:
        PersistenceError: they are not what ``_encode`` writes.
    """

def _constructors(actors: list[Ref]) -> list[Any]: ...
def _find_unfit(env: PersistenceEnv) -> list[tuple[str, str | None, int, int]]: ...
def _outdated(first: int, end: int) -> list[tuple[int, str]]: ...
def _renew(slots: list[int]) -> dict[str, int]: ...
def _replace(
    old: PersistenceEnv, new: PersistenceEnv, others: list[Ref], unknown: dict[str, int], dry_run: bool
) -> tuple[dict[str, int], dict[str, int], dict[str, int], list[tuple[str, int, str, BaseException]]]: ...
def _to_walk() -> tuple[int, int]: ...
def _at_exit() -> None: ...
def _check_process() -> None: ...

__version__: str
_OPTIMISED: bool

def _in_turn() -> bool: ...
def _first_modules() -> dict[str, ModuleType]: ...
def _use_errors(module: ModuleType) -> None: ...
