"""The compiled part of the package: actors, promises, vats and stores."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine, Generator, Iterable
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from inspect import Signature
from os import PathLike
from pathlib import Path
from types import GenericAlias, ModuleType, TracebackType
from typing import Any, Concatenate, Generic, Literal, NoReturn, ParamSpec, Self, TypeVar, final, overload
from uuid import UUID

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
    "_all_of",
    "_at_exit",
    "_check_process",
    "_collected",
    "_collecting",
    "_constructor",
    "_constructors",
    "_copied",
    "_copy_store",
    "_decode",
    "_encode",
    "_fields_of",
    "_find_unfit",
    "_first_modules",
    "_guard_dict",
    "_in_turn",
    "_key_bytes",
    "_next_stored",
    "_outdated",
    "_page",
    "_page_back",
    "_page_become",
    "_page_damaged",
    "_page_done",
    "_page_find",
    "_page_most",
    "_page_spawn",
    "_page_stands",
    "_race",
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
# What `on` takes in place of a promise, which must be none of these: else wrong handlers of one would pass.
_Plain = TypeVar(
    "_Plain",
    bound=_ActorBase
    | Ref
    | PersistableId
    | complex
    | str
    | bytes
    | bytearray
    | tuple[Any, ...]
    | list[Any]
    | dict[Any, Any]
    | AbstractSet[Any]
    | date
    | time
    | timedelta
    | Decimal
    | UUID
    | Enum
    | None,
)

@final
class Bcom:
    """The right to change one actor's behavior: its constructor's first argument.

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
    """What a constructor made with ``@actor`` returns: the code, and the call that it came from."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the code: for a constructor that hands on the behavior of another.

        Args:
            args, kwargs: what the code takes.

        Returns:
            What the code returns.
        """

@final
class Constructor:
    """What ``@actor`` makes of a function: its actors know their portrait."""

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
        """Makes a behavior: to be given to ``bcom``, or returned by another constructor.

        Args:
            args, kwargs: what the function takes, ``bcom`` first.

        Returns:
            The behavior; or the Ref that the function returns.

        Raises:
            BehaviorError: the function returned neither behavior nor Ref.
        """

@final
class Portrayed:
    """A behavior with a portrait made by hand: see ``portraitize``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the code: for a constructor that hands on the behavior of another.

        Args:
            args, kwargs: what the code takes.

        Returns:
            What the code returns.
        """

@final
class Methods:
    """A behavior made of named functions: see ``methods``."""

@final
class BoundMessage:
    """``ref.method``: call it, or give it to ``send`` or ``tell``.

    It stands for no value: to test it for truth, to compare it with a value, to format it, to count with it
    or to iterate over it is a TypeError that says how to ask for the value. ``repr`` and ``str`` name the
    message.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A synchronous call of the method: see ``Ref``.

        Args:
            args, kwargs: what the method takes.

        Returns:
            What the method returns.

        Raises:
            NoSuchMethodError: the actor has no such method.
            BaseException: what a call of the ``Ref`` raises, too.
        """

    @property
    def __name__(self) -> str:
        """The name of the method."""

    @property
    def __signature__(self) -> Signature:
        """The signature of the method, as far as the class of the actor is known."""

    def __eq__(self, other: object, /) -> bool:
        """Whether both are the same message to the same actor.

        Args:
            other: a message or a function.

        Returns:
            False for any function.

        Raises:
            TypeError: the other one is a value, and a message is none.
        """

    def __hash__(self, /) -> int: ...
    def __enter__(self) -> NoReturn: ...
    def __exit__(self, *_error: object) -> NoReturn: ...
    def __aenter__(self) -> NoReturn: ...
    def __aexit__(self, *_error: object) -> NoReturn: ...
    def __format__(self, _spec: str, /) -> str: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, _memo: Any) -> Self: ...

@final
class Ref:
    """The capability to send to an actor. There is one ``Ref`` per actor: compare with ``is`` or ``==``.

    ``ref(...)`` and ``ref.method(...)`` are synchronous: inside a turn of the same vat a plain call;
    from a thread that is in no turn, one turn of its own, run on this thread, durable when it returns. Inside
    a turn of another vat they raise FarCallError: use ``send``.

    A ``Ref`` has no fields, and a copy of it is itself. ``dir`` shows the messages of the actor.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the actor.

        Args:
            args, kwargs: what its behavior takes.

        Returns:
            What it answers. Outside of turns, that is when what it did is durable.

        Raises:
            BaseException: what the actor raised: nothing of the turn has happened.
            FarCallError: this is a turn of another vat.
            NoSuchMethodError: the actor answers to methods only.
            NoSuchActorError: the turn that spawned the actor was undone.
            NotPortableError: the turn ends with a state that can't be stored.
            DeadlockError: the actor is just being made; or this thread runs the event loop that the vat waits
                for.
            VatClosedError: the vat is closed.
            PersistenceError: the vat has stopped, since its store failed.
            StoreError: the store failed in this turn.
        """

    @property
    def __signature__(self) -> Signature:
        """The signature of the call, as far as the class of the actor is known."""

    def __getattribute__(self, name: str, /) -> Any: ...
    def __dir__(self) -> list[str]: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, _memo: Any) -> Self: ...

@final
class Promise(Generic[_T_co]):
    """A value that is still to come.

    ``await`` it in any loop of asyncio or trio, wait with ``result``, or listen with ``on`` inside a turn.
    ``promise(...)`` and ``promise.method(...)`` call what a settled one stands for. Give
    the promise, or its method, to ``send`` to send a message on to what it will stand for.
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
        """The promise of a part of the value: ``promise["key"]``, ``promise[0]``.

        Args:
            key: what stands in the brackets.

        Returns:
            A promise, which breaks with what ``value[key]`` raises, and with TypeError if the value is an
            actor.
        """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls what the promise stands for, in a turn, once it has settled.

        Args:
            args, kwargs: what the actor takes that the promise stands for.

        Returns:
            What the actor answers; the value itself, if that is no actor.

        Raises:
            NoTurnError: the promise has not settled, or this thread is in no turn.
            BaseException: the error that broke the promise, or what a call of a ``Ref`` raises.
        """

    def __iter__(self) -> NoReturn: ...
    def __reversed__(self) -> NoReturn: ...
    def __contains__(self, item: Any, /) -> NoReturn: ...
    def __getattribute__(self, name: str, /) -> Any: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, _memo: Any) -> Self: ...
    @classmethod
    def __class_getitem__(cls, item: Any) -> GenericAlias: ...
    def _subscribe(self, settled: Callable[[Any, BaseException | None], object]) -> None: ...
    def _unsubscribe(self, settled: Callable[[Any, BaseException | None], object]) -> None: ...

def _all_of(promises: list[Any]) -> Promise[list[Any]]: ...
def _race(promises: list[Any]) -> Promise[Any]: ...

@final
class Resolver:
    """The right to settle a promise. Only the first settlement counts."""

    def fulfil(self, value: Any) -> None:
        """Settles the promise with a value; with another promise, it will settle as that one does.

        In a turn it happens at the end, if the turn succeeds.

        Args:
            value: the value, or a promise.
        """

    def break_(self, error: Any) -> None:
        """Breaks the promise. In a turn it happens at the end, if the turn succeeds.

        Args:
            error: an exception; any other value becomes the ``problem`` of a BrokenPromiseError.
        """

    def update(self, value: Any) -> None:
        """Tells those who listen with ``on(promise, partial=...)`` of a value before the promise settles,
        such as how far some work has come. It reaches promises that wait for this one, too.

        In a turn it happens at the end, if the turn succeeds. After the settlement it does nothing.

        Args:
            value: what the listeners get.
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
    def _begin(self) -> int | None: ...
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
def _page_done() -> None: ...
def _page_stands(mark: int) -> None: ...
def _page_back(mark: int) -> None: ...
def _page_spawn(constructor: Constructor, /, *state: Any) -> Ref: ...
def _copied(value: _T) -> _T: ...
def _fields_of(instance: _ActorBase) -> dict[str, Any]: ...
def _guard_dict(class_: type, property: Any) -> None: ...
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
        """Makes a token that a method returns to become another actor within its turn.

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
    """An event loop with its actors: it handles one message at a time, each all or nothing.

    No thread belongs to it: whoever brings work to an idle vat runs it, and a small pool runs vats that have
    messages and nobody inside. An event loop of asyncio that sends messages runs their turns, too, if it is
    known that they are quick. ``with vat:`` makes what stands in the block one turn.

    Args:
        name: for messages and logs; without one it is called after its number.
        log: record events, from the start: see ``vat.log``.
        log_capacity: how many the log holds; the oldest are dropped.
        inbox_limit: how many messages may wait; None for any number. At the limit a sender outside of turns
            waits, and one in a turn of another vat gets InboxFullError.
        slow_turn: seconds, more than 0, that a turn may take before it is logged with its stack; None for any
            time.
        workers: messages are for the workers of the pool alone, never for the event loop that sends them: for
            behaviors that now and then block, or wait for that loop.

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
        workers: bool = False,
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
        workers: bool = False,
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
    def workers(self) -> bool:
        """Whether messages are for the workers of the pool alone, and for no event loop."""

    @property
    def backlog(self) -> int:
        """How many messages wait."""

    @property
    def awake(self) -> int | None:
        """How many stored actors were awake after the last churn; None for a vat without a store.

        An actor is awake while its behavior is in memory; one that sleeps, or was not used since the vat was
        opened, is a ``Ref`` at most. See ``lru``.
        """

    @property
    def id(self) -> int:
        """Its number among the vats of this process, from 0."""

    @property
    def log(self) -> EventLog:
        """Its event log."""

    def open(self) -> None:
        """Opens a closed vat again; its actors are as they were. An open one stays as it is.

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

        In a turn of this vat it is a plain call, and part of that turn.

        Args:
            function: what to call.
            args, kwargs: what it gets.

        Returns:
            What the function returned, when what it did is durable; for an ``async`` function, the promise of
            that.

        Raises:
            BaseException: what the function raised: nothing of the turn has happened.
            NotPortableError: the turn ends with a state that can't be stored.
            FarCallError: this is a turn of another vat.
            NoTurnError: this is a finalizer that runs between two turns.
            DeadlockError: this thread runs an event loop that has to go on for the turn.
            VatClosedError: the vat is closed.
            PersistenceError: the vat has stopped, since its store failed.
            StoreError: the store failed in this turn.
        """

    @overload
    def spawn(self, constructor: Constructor, /, *args: Any, **kwargs: Any) -> Ref:
        """Makes an actor here, in a turn of its own; in a turn of this vat, as a part of that.

        Args:
            constructor: as for ``goblins.spawn``.
            args, kwargs: what it gets.

        Returns:
            The actor's Ref. For a class it is typed as an instance.

        Raises:
            BaseException: what the constructor raised: nothing of the turn has happened.
            BehaviorError: the constructor returned neither behavior nor Ref.
            FarCallError: this is a turn of another vat.
            VatClosedError: the vat is closed.
            PersistenceError: the vat has stopped, since its store failed.
        """

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
            ValueError: ``timeout`` is not a number.
            DeadlockError: this is a turn.
            VatClosedError: the vat is closed.
            PersistenceError: the vat has stopped, since its store failed.
            StoreError: the store failed meanwhile.
        """

    def save(self) -> None:
        """Writes all that has changed since the last save, in one batch, and returns when it is durable.

        That is for vats opened with ``persist_on="manual"``. Another vat with a store saves by itself after
        each churn: then this waits until all that it did is durable.

        Raises:
            PersistenceError: the vat has no store, or has stopped.
            StoreError: the store failed: the vat has stopped; in the store is the save before, or this one.
            NotPortableError: what has changed can't be stored.
            VatClosedError: the vat is closed.
            DeadlockError: this is a turn.
        """

    def save_async(self) -> Coroutine[Any, Any, None]:
        """As ``save``, for coroutines: while the disk is busy, the loop goes on.

        Returns:
            A coroutine that ends when all is durable.

        Raises:
            PersistenceError: the vat has no store, or has stopped.
            StoreError: the store failed: the vat has stopped; in the store is the save before, or this one.
            NotPortableError: what has changed can't be stored.
            VatClosedError: the vat is closed.
            DeadlockError: this is a turn.
        """

    def _save_soon(self) -> None: ...
    def replace_behavior(
        self,
        env: PersistenceEnv | None = None,
        *,
        only: str | Callable[..., Any] | Iterable[str | Callable[..., Any]] | None = None,
        dry_run: bool = False,
    ) -> Replacement:
        """Gives the actors new code behind the same Refs, in one turn, saved as one batch.

        An actor gets new code if its label stands for another constructor in the new environment, which the
        vat uses from then on, also for saving. Its portrait is taken by the old code, and made again by the
        new code, with ``upgrade=`` and ``restore=`` as at a restart. Actors that are not in memory get the
        new code when they are first used. If anything fails, nothing has changed.

        A behavior that waits for a promise goes on with the old code: it sees the state as it was when the
        actor was replaced, and if it changes that state, or becomes something, its turn fails.

        In a vat without a store, actors are replaced whose state could be stored; others are left alone, and
        named in the report. They are found by way of the garbage collector, which sees again what
        ``gc.freeze()`` has set aside.

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
            PersistenceError: ``env`` was given, and the vat has no store.
            DeadlockError: this is a turn.
        """

    def upgrade_all(
        self, progress: Callable[[int, int], object] | bool | None = None, batch: int = 1000
    ) -> Upgrade:
        """Finishes upgrades: all stored actors that have not been used since their code has changed
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
        Closing twice does nothing.

        Raises:
            DeadlockError: this is a turn.
        """

    @overload
    def run_async(
        self, function: Callable[_P, Coroutine[Any, Any, _T]], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Coroutine[Any, Any, _T]:
        """As ``run``, for coroutines: while the vat is busy, or the disk, the loop goes on.

        The turn runs where the messages of the vat do: on a worker thread of goblins; in an ``AsyncioVat`` on
        its loop; in a ``ManualVat`` at once, on a thread of its own. A waiter that is cancelled leaves the
        turn to go on.

        Args:
            function: what to call.
            args, kwargs: what it gets.

        Returns:
            What the function returned, when what it did is durable; for a promise, or a function that is
            ``async``, what comes of it.

        Raises:
            BaseException: what the function raised: nothing of the turn has happened.
            NotPortableError: the turn ends with a state that can't be stored.
            DeadlockError: this is a turn: use ``send``.
            VatClosedError: the vat is closed.
            PersistenceError: the vat has stopped, since its store failed.
            StoreError: the store failed in this turn.
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

        Returns:
            A coroutine that ends when the vat has nothing left to do.

        Raises:
            VatTimeoutError: it has not come to rest in time.
            ValueError: ``timeout`` is not a number.
            DeadlockError: this is a turn.
            VatClosedError: the vat is closed.
            PersistenceError: the vat has stopped, since its store failed.
            StoreError: the store failed meanwhile.
        """

    def close_async(self) -> Coroutine[Any, Any, None]:
        """As ``close``, for coroutines: closes on a thread of its own, and does not block the loop.

        If the waiter is cancelled, the closing goes on.

        Returns:
            A coroutine that ends when the vat is closed.

        Raises:
            DeadlockError: this is a turn.
        """

    def __aenter__(self) -> Coroutine[Any, Any, Self]:
        """``async with`` is about the life of the vat: it is closed at the end, as by ``close_async``.

        It is no turn; for one use ``with vat:`` or ``run_async``. A waiter that is cancelled is so once
        the vat is closed.

        Returns:
            A coroutine that gives the vat.
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
    """A vat whose messages wait until somebody calls for them: for tests that want to see each step.

    Synchronous calls from outside are turns at once, as in every vat; they leave the messages waiting.

    Args:
        name, log, log_capacity, inbox_limit, slow_turn: see ``Vat``.
    """

    # What `__init__` gets, it takes no heed of.
    def __new__(  # pyright: ignore[reportInconsistentConstructor]
        cls,
        name: str | None = None,
        *,
        log: bool = False,
        log_capacity: int = 256,
        inbox_limit: int | None = None,
        slow_turn: float | None = 1.0,
        _opening: _Opening | None = None,
    ) -> Self: ...
    def step(self) -> bool:
        """Handles the message that has waited longest, and the near ones that come of it.

        Returns:
            False if there was none.
        """

class AsyncioVat(Vat):
    """A vat whose turns run on an event loop of asyncio.

    Synchronous calls from other threads run there too, while the caller waits; ``with vat:`` works on the
    thread of the loop only.

    Args:
        loop: the loop; without one, that which runs on this thread.
        name, log, log_capacity, inbox_limit, slow_turn: see ``Vat``.

    Raises:
        TypeError: the loop is none of asyncio.
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
        """The part with this name, for ``spawn_persistent_vat``: so several vats live in one store.

        Args:
            name: any text; the store itself stands for the part "main".

        Returns:
            The part. Nothing is written for it before a vat lives there.

        Raises:
            ValueError: the name has lone surrogates, which can't be stored.
        """

    def vats(self) -> list[str]:
        """The parts that hold a vat.

        Returns:
            Their names, in order.

        Raises:
            StoreError: the store failed, or is closed.
        """

    def collect(self, progress: Callable[[str, int, int], object] | None = None) -> CollectionReport:
        """Removes the stored actors that no root reaches, and gives back their room.

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

        Returns:
            A coroutine that gives the store.
        """

    def __aexit__(self, *_error: object) -> Coroutine[Any, Any, Literal[False]]: ...

@final
class MemoryStore(Store):
    """A store that lives as long as this object: for tests.

    Args:
        keep_generations: how many older states of each part can be looked at (``StorePart.at``); 0: none. A
            churn costs a little more for it, and the store keeps what the last so many churns have replaced.
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
        ValueError: the path has a NUL in it, or what the system's encoding of names can't hold.
    """

    def __new__(
        cls,
        path: str | bytes | PathLike[str] | PathLike[bytes],
        *,
        sync: bool = True,
        keep_generations: int = 0,
        auto_collect: bool = True,
    ) -> Self: ...
    @staticmethod
    def _open_read_only(path: str | bytes | PathLike[str] | PathLike[bytes]) -> RocksStore: ...
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
        """The states of this part that can be looked at, the oldest first.

        Each churn that changed something makes one. The last of them is what the part is now. Empty if the
        store keeps none, or nothing was stored yet.

        Returns:
            Their numbers, and when each was stored.

        Raises:
            StoreError: the store failed, or is closed.
        """

    def at(self, generation: int) -> StorePart:
        """The part as it was at an older generation.

        ``spawn_persistent_vat`` opens it, also while a vat lives in the part itself. What is written there
        stays in memory and goes with the view. It ends with the store, or with the view's own
        ``store.close()``, or when nothing refers to it any more.

        Args:
            generation: the number of one of ``generations()``.

        Returns:
            A view, to be used as any part.

        Raises:
            StoreError: that generation is not kept; the message names those that are.
            StoreCorruptError: what leads back there is damaged.
        """

@final
class PersistenceRegistry:
    """Joins the vats of several stores, so that references between them come back.

    Give one to each ``spawn_persistent_vat``, in any order. A vat that is opened again takes the
    place of the closed one; what is asked of a vat that is not open waits until it is. Vats of one store need
    no registry.
    """

    def __new__(cls) -> Self: ...
    def vats(self) -> list[str]:
        """The vats that are open.

        Returns:
            Their names, in order.
        """

    def pending(self) -> list[PendingReference]:
        """The references that wait for a vat which is not open.

        Returns:
            One for each reference, in the order of ids and slots.
        """

    def __len__(self) -> int:
        """How many vats are open.

        Returns:
            Their number.
        """

    def __bool__(self) -> bool: ...

@final
class PersistableId:
    """The name of an actor of a persistent vat: equal for the same actor, also after a restart.

    It can be stored, and can be a key. It gives no access to the actor.
    """

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, _memo: Any) -> Self: ...

def persistable_id(actor: Any) -> PersistableId:
    """The name of an actor that stays the same over restarts.

    Args:
        actor: a Ref of an actor of a persistent vat.

    Returns:
        The name: it can be stored, and gives no access to the actor.

    Raises:
        TypeError: it is no Ref; a promise has none, though what it becomes may.
        PersistenceError: the actor's vat has no store.
    """

@overload
def spawn(constructor: Constructor, /, *args: Any, **kwargs: Any) -> Ref:
    """Makes an actor in the vat whose turn this is.

    Args:
        constructor: a class of actors, made with these arguments; or a callable that takes ``bcom`` first,
            then these, and returns the behavior: a callable, or ``methods(...)``. One that returns a Ref
            gives that.
        args, kwargs: what it gets.

    Returns:
        The actor's Ref. For a class it is typed as an instance, so that calls of its methods are checked.

    Raises:
        NoTurnError: this thread is in no turn: use ``vat.spawn`` or ``with vat:``.
        BehaviorError: the constructor returned neither behavior nor Ref.
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
    """As ``spawn``, with a name of its own in messages, kept in the store.

    Args:
        name: the name; others may have the same.
        constructor: as for ``spawn``.
        args, kwargs: what it gets.

    Returns:
        The actor's Ref. For a class it is typed as an instance, so that calls of its methods are checked.

    Raises:
        NoTurnError: this thread is in no turn: use ``with vat:``.
        BehaviorError: the constructor returned neither behavior nor Ref.
        ValueError: the name has lone surrogates, which can't be stored.
    """

@overload
def spawn_named(  # type: ignore[overload-overlap]
    name: str, constructor: Callable[_P, _A], /, *args: _P.args, **kwargs: _P.kwargs
) -> _A: ...
@overload
def spawn_named(
    name: str, constructor: Callable[Concatenate[Bcom, _P], object], /, *args: _P.args, **kwargs: _P.kwargs
) -> Ref: ...
def methods(*, extends: Any = None, **named: Callable[..., Any]) -> Methods:
    """Makes a behavior that answers ``ref.name(...)`` with the function given as ``name``.

    Args:
        extends: answers to all other names: another ``methods(...)``; an actor, which is called if it is near
            and sent to if it is far; or a function that gets the name before the arguments.
        named: the functions.

    Returns:
        The behavior, for a constructor to return.

    Raises:
        TypeError: one is not callable, or its name starts with an underscore.
    """

def portraitize(
    behavior: Any, portrait: Callable[[], Any], /, *, constructor: Callable[..., Any] | None = None
) -> Portrayed:
    """Gives a behavior a portrait that is made by hand, for constructors without ``@actor``.

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
    """Sends a message; the actor handles it in a later turn.

    Args:
        target: a Ref, ``ref.method``, a promise or ``promise.method``.
        args, kwargs: what the actor gets.

    Returns:
        The promise of the answer. In a turn the message goes out at the end, if the turn succeeds. The
        promise breaks with what the actor raises, and with VatClosedError if the message can't reach its vat.

    Raises:
        BehaviorError: the target is none of these.
        InboxFullError: the inbox of the actor's vat is full, and this is a turn; or the vat is a ManualVat or
            an AsyncioVat, for which nobody can wait here.
    """

@overload
def send(target: Callable[_P, Promise[_T]], /, *args: _P.args, **kwargs: _P.kwargs) -> Promise[_T]: ...
@overload
def send(target: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Promise[_T]: ...
def tell(target: Callable[_P, object], /, *args: _P.args, **kwargs: _P.kwargs) -> None:
    """As ``send``, for a message of which nobody wants the answer: an error is logged.

    Args:
        target: a Ref, ``ref.method``, a promise or ``promise.method``.
        args, kwargs: what the actor gets.

    Raises:
        BehaviorError: the target is none of these.
        InboxFullError: the inbox of the actor's vat is full, and this is a turn; or the vat is a ManualVat or
            an AsyncioVat, for which nobody can wait here.
    """

@overload
def on(
    promise: Promise[_T],
    fulfilled: Callable[[_T], Coroutine[Any, Any, _U] | Promise[_U]],
    *,
    catch: None = None,
    finally_: Callable[[], object] | None = None,
    partial: Callable[[Any], object] | None = None,
) -> Promise[_U]:
    """Calls a handler in a later turn of this vat, once a promise has settled.

    Args:
        promise: a promise, or any value: that is as good as a promise which has it.
        fulfilled: gets the value; without it the value goes through.
        catch: gets the error; without it the error goes through.
        finally_: called in both cases, after the others.
        partial: gets each value of ``resolver.update(...)``, in a turn of its own, and first the newest one
            that there was before; nothing after the promise has settled. Its error is logged.

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
@overload
def on(
    promise: _Plain,
    fulfilled: Callable[[_Plain], Coroutine[Any, Any, _U] | Promise[_U]],
    *,
    catch: Callable[[Any], object] | None = None,
    finally_: Callable[[], object] | None = None,
    partial: Callable[[Any], object] | None = None,
) -> Promise[_U]: ...
@overload
def on(
    promise: _Plain,
    fulfilled: Callable[[_Plain], _U],
    *,
    catch: Callable[[Any], object] | None = None,
    finally_: Callable[[], object] | None = None,
    partial: Callable[[Any], object] | None = None,
) -> Promise[_U]: ...
@overload
def on(
    promise: _Plain,
    fulfilled: None = None,
    *,
    catch: Callable[[Any], object] | None = None,
    finally_: Callable[[], object] | None = None,
    partial: Callable[[Any], object] | None = None,
) -> Promise[_Plain]: ...
def promise_and_resolver() -> tuple[Promise[Any], Resolver]:
    """Makes a promise and the right to settle it.

    Returns:
        Both. The promise breaks if its resolver is dropped before it has settled.
    """

def vats() -> list[Vat]:
    """The vats of this process that are in memory, closed ones too.

    Returns:
        The vats, the oldest first.
    """

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
    def next_stored(self, first: int) -> int | None: ...
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
def _next_stored(first: int) -> int | None: ...
def _outdated(first: int, end: int) -> list[tuple[int, str]]: ...
def _renew(slots: list[int]) -> dict[str, int]: ...
def _replace(
    old: PersistenceEnv, new: PersistenceEnv, others: list[Ref], unknown: dict[str, int], dry_run: bool
) -> tuple[dict[str, int], dict[str, int], dict[str, int], list[tuple[str, int, str, BaseException]]]: ...
def _to_walk() -> tuple[int, int]: ...
def _at_exit() -> None: ...
def _collected(phase: str, _info: Any) -> None: ...
def _check_process() -> None: ...
def _collecting(phase: str, _info: object) -> None: ...

__version__: str
_OPTIMISED: bool

def _in_turn() -> bool: ...
def _first_modules() -> dict[str, ModuleType]: ...
def _use_errors(module: ModuleType) -> None: ...
