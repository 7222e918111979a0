"""Environments, and vats that live in a store."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias, TypeVar, TypeVarTuple, cast, get_origin, overload

from goblins import _texts
from goblins._actor import hand_made
from goblins._cells import CELLS
from goblins._class import Actor
from goblins._errors import BehaviorError, DuplicateLabelError
from goblins._goblins import (
    Constructor,
    PersistenceRegistry,
    Store,
    StorePart,
    Vat,
    _ClassInfo,
    _Opening,
    _RecordClass,
)
from goblins._migrations import Migrations
from goblins._records import describe
from goblins._sleep import lru

MAIN_PART = "main"

Root = TypeVar("Root")
Roots = TypeVarTuple("Roots")

AnyConstructor: TypeAlias = Constructor | type[Actor] | Callable[..., Any]


class PersistenceEnv:
    """The map from labels to the constructors that may make stored actors (ENV-01).

    ``PersistenceEnv("bank", counter, account)`` gives the labels ``bank.counter`` and ``bank.account``;
    ``PersistenceEnv({"label": constructor})`` names each, and ``{"label": (constructor, rehydrate)}`` gives a
    rehydrator too (``restore=`` of ``@actor`` wins, ENV-07). In the first form a constructor's ``label=``
    stands in for its name; one with a dot in it is taken as the whole label. In the second form a constructor
    may also be a plain function, whose behaviors have their portraits by ``portraitize`` (POR-22).

    Every environment knows the actors of the library: ``cell``, ``read_only`` and ``write_only`` (ENV-09),
    and the pages of Map, List and Set.

    Args:
        namespace: the first part of the labels, or the whole map.
        constructors: made with ``@actor``, or classes of actors.
        records: classes whose instances are values that may be stored: dataclasses, classes of attrs, named
            tuples and enums. They are named as constructors are; a mapping gives the names.
        extends: environments whose labels, records and aliases are taken over.
        aliases: names of old: an actor that is stored under one is made by the constructor given for it, and
            stored with the label of that from then on; a record likewise. Both must be in this environment.

    Raises:
        DuplicateLabelError: a label, a constructor, a record or an alias is given twice (ENV-05, ENV-11), or
            a label begins with ``goblins.``, as those of the library do.
        BehaviorError: something given can't be a constructor here, or can't be a record; or an alias stands
            for what is not in the environment.
        ValueError: a namespace, a label or a name has lone surrogates, which can't be stored.
    """

    __slots__ = ("_aliases", "_constructors", "_hand_made", "_records", "_rehydrators")

    def __init__(
        self,
        namespace: str | Mapping[str, Any],
        /,
        *constructors: Constructor | type[Actor],
        records: Iterable[type] | Mapping[str, type] = (),
        aliases: Mapping[str, AnyConstructor] | None = None,
        extends: PersistenceEnv | Iterable[PersistenceEnv] = (),
    ) -> None:
        self._constructors: dict[str, AnyConstructor] = {}
        self._hand_made: dict[str, Constructor] = {}
        self._rehydrators: dict[str, Callable[..., Any]] = {}
        self._records: dict[str, _RecordClass] = {}
        # What was stored under the first name has the second one today.
        self._aliases: dict[str, str] = {}
        if isinstance(namespace, str):
            _texts.checked("the namespace", namespace)
            for constructor in map(without_parameters, constructors):
                _check(constructor)
                self._add(_label(namespace, constructor), constructor)
        else:
            if constructors:
                raise TypeError("give either a namespace with constructors, or one mapping")
            for label, given in namespace.items():
                self._add(label, *_pair(label, given))
        for name, record in _named(namespace, records):
            _texts.checked("the name of a record", name)
            self._add_record(describe(name, record))
        for other in (extends,) if isinstance(extends, PersistenceEnv) else extends:
            self._take_over(other)
        for alias, made in (aliases or {}).items():
            whole = "." in alias or not isinstance(namespace, str)
            self._add_alias(alias if whole else f"{namespace}.{alias}", self._name_of(alias, made))

    def _add(self, label: str, constructor: AnyConstructor, rehydrate: Any = None) -> None:
        constructor = without_parameters(constructor)
        made = hand_made(constructor) if inspect.isroutine(constructor) else None
        if made is None:
            _check(constructor)
        library = next((known for known, kind in CELLS.items() if kind is constructor), None)
        if library is not None:
            raise DuplicateLabelError(
                f"{library} needs no label {label!r}: every environment has it, so leave it out"
            )
        self._check_label("label", label)
        if rehydrate is not None:
            if isinstance(constructor, type) or not callable(rehydrate):
                raise BehaviorError(
                    f"the rehydrator of {label!r} is a function, for a constructor that is one as well"
                )
            self._rehydrators[label] = rehydrate
        for known, other in self._constructors.items():
            if other is constructor:
                raise DuplicateLabelError(
                    f"the constructor {constructor.__name__} has two labels: {known!r} and {label!r}"
                )
        about = made or information(constructor)
        if isinstance(about.upgrade, Migrations):
            about.upgrade._check(constructor.__name__, about.version)
        self._constructors[label] = constructor
        if made is not None:
            self._hand_made[label] = made

    def _check_label(self, what: str, label: str) -> None:
        if not isinstance(label, str):
            raise BehaviorError(f"the {what} is a text, not {label!r}")
        _texts.checked(f"the {what}", label)
        if label.startswith("goblins."):
            raise DuplicateLabelError(
                f"the {what} {label!r} is taken: what begins with 'goblins.' is that of goblins itself"
            )
        self._refuse_known(what, label)

    def _add_record(self, record: _RecordClass) -> None:
        name = record.name
        self._refuse_known("name", name)
        for known, other in self._records.items():
            if other.record is record.record:
                raise DuplicateLabelError(
                    f"the record {record.record.__qualname__} has two names: {known!r} and {name!r}"
                )
        self._records[name] = record

    def _add_alias(self, alias: str, name: str) -> None:
        self._check_label("alias", alias)
        self._aliases[alias] = name

    def _refuse_known(self, what: str, name: str) -> None:
        if name in self._aliases:
            raise DuplicateLabelError(
                f"the {what} {name!r} is given twice: it is an alias of {self._aliases[name]!r} too"
            )
        if name in self._constructors or name in self._records:
            raise DuplicateLabelError(f"the {what} {name!r} is given twice")

    def _name_of(self, alias: str, made: Any) -> str:
        """What a constructor or a record is called, for an alias of it."""
        made = without_parameters(made)
        for label, constructor in {**self._constructors, **CELLS}.items():
            if constructor is made:
                return label
        for name, record in self._records.items():
            if record.record is made:
                return name
        raise BehaviorError(
            f"the alias {alias!r} stands for {made!r}, which is not in the environment: add it there, under "
            "its new name"
        )

    def _take_over(self, other: PersistenceEnv) -> None:
        for label, constructor in other._constructors.items():
            if label not in CELLS and self._constructors.get(label) is not constructor:
                self._add(label, constructor, other._rehydrators.get(label))
        for name, record in other._records.items():
            known = self._records.get(name)
            if known is None or known.record is not record.record:
                self._add_record(record)
        for alias, name in other._aliases.items():
            if self._aliases.get(alias) != name:
                self._add_alias(alias, name)

    def __or__(self, other: PersistenceEnv) -> PersistenceEnv:
        if not isinstance(other, PersistenceEnv):
            return NotImplemented
        return PersistenceEnv({}, extends=(self, other))

    def _parts(self) -> tuple[dict[str, Any], dict[str, _RecordClass], dict[str, str]]:
        """What the binding needs: constructors, records, and aliases.

        In place of a constructor there may be a tuple of one, its rehydrator, and the plain function.
        """
        makers: dict[str, Any] = {}
        for label, constructor in self._constructors.items():
            if label in CELLS:
                continue
            made, rehydrate = self._hand_made.get(label), self._rehydrators.get(label)
            if made is not None:
                makers[label] = (made, rehydrate, constructor)
            else:
                makers[label] = constructor if rehydrate is None else (constructor, rehydrate, None)
        return makers, self._records, self._aliases

    def labels(self) -> list[str]:
        """The labels, in the order in which they were given."""
        return list(self._constructors)

    def records(self) -> list[str]:
        """The names of the records, in the order in which they were given."""
        return list(self._records)

    def aliases(self) -> dict[str, str]:
        """What labels and records were called before, and what they are called today."""
        return dict(self._aliases)

    def __repr__(self) -> str:
        return f"<PersistenceEnv {', '.join([*self._constructors, *self._records])}>"


def without_parameters(constructor: Any) -> Any:
    """The class itself, of a generic class of actors with its parameters: ``Box`` of ``Box[int]``."""
    origin = get_origin(constructor)
    return origin if isinstance(origin, type) and issubclass(origin, Actor) else constructor


def _pair(label: str, given: Any) -> tuple[Any, Any]:
    """A constructor and its rehydrator."""
    if not isinstance(given, tuple):
        return given, None
    if len(given) != 2:
        raise BehaviorError(f"{label!r} is a constructor, or a pair of a constructor and a rehydrator")
    return given[0], given[1]


def store_and_part(store: Any) -> tuple[Store, str]:
    """The store, and the name of the part that is meant."""
    if isinstance(store, StorePart):
        return store.store, store.name
    if isinstance(store, Store):
        return store, MAIN_PART
    raise TypeError(f"store is a MemoryStore, a RocksStore or a part of one, not {store!r}")


def _named(
    namespace: str | Mapping[str, Any], records: Iterable[type] | Mapping[str, type]
) -> Iterator[tuple[str, type]]:
    """Records with the names that they are stored under."""
    if isinstance(records, Mapping):
        named = cast("Mapping[str, type]", records)
        for name, record in named.items():
            whole = "." in name or not isinstance(namespace, str)
            yield (name if whole else f"{namespace}.{name}"), record
        return
    for record in records:
        if not isinstance(namespace, str):
            raise TypeError('without a namespace, records= is a mapping such as {"bank.Money": Money}')
        yield f"{namespace}.{getattr(record, '__name__', record)}", record


def information(constructor: Any) -> Constructor | _ClassInfo:
    made: Constructor | _ClassInfo = getattr(constructor, "__goblins__", constructor)
    return made


def _label(namespace: str, constructor: Constructor | type[Actor]) -> str:
    """The label of a constructor in a namespace. One that names a namespace itself is taken as it is."""
    given = information(constructor).label
    return given if given and "." in given else f"{namespace}.{given or constructor.__name__}"


def _check(constructor: Any) -> None:
    if isinstance(constructor, Constructor):
        return
    if not (isinstance(constructor, type) and issubclass(constructor, Actor)) or constructor is Actor:
        raise BehaviorError(
            f"a PersistenceEnv holds @actor constructors and classes of actors, not {constructor!r}; a plain "
            "function, with portraitize(...), needs a label: PersistenceEnv({label: function})"
        )


def _of_library(constructors: Mapping[str, type[Actor]]) -> PersistenceEnv:
    env = PersistenceEnv({})
    env._constructors.update(constructors)
    return env


cell_env = _of_library(CELLS)
"""The environment of the cells (ENV-09). Every environment knows them; to extend this one does no harm."""


@overload
def spawn_persistent_vat(
    env: PersistenceEnv,
    spawn_roots: Callable[[], tuple[*Roots]],
    store: Store | StorePart,
    *,
    persist_on: Literal["churn", "manual"] = "churn",
    vat_constructor: Callable[..., Vat] = Vat,
    name: str | None = None,
    log: bool = False,
    log_capacity: int = 256,
    persistence_registry: PersistenceRegistry | None = None,
    version: Any = 0,
    upgrade: Any = None,
    sleep: lru | None = None,
) -> tuple[Vat, *Roots]: ...
@overload
def spawn_persistent_vat(
    env: PersistenceEnv,
    spawn_roots: Callable[[], list[Root]],
    store: Store | StorePart,
    *,
    persist_on: Literal["churn", "manual"] = "churn",
    vat_constructor: Callable[..., Vat] = Vat,
    name: str | None = None,
    log: bool = False,
    log_capacity: int = 256,
    persistence_registry: PersistenceRegistry | None = None,
    version: Any = 0,
    upgrade: Any = None,
    sleep: lru | None = None,
) -> tuple[Vat, *tuple[Root, ...]]: ...
@overload
def spawn_persistent_vat(
    env: PersistenceEnv,
    spawn_roots: Callable[[], Root],
    store: Store | StorePart,
    *,
    persist_on: Literal["churn", "manual"] = "churn",
    vat_constructor: Callable[..., Vat] = Vat,
    name: str | None = None,
    log: bool = False,
    log_capacity: int = 256,
    persistence_registry: PersistenceRegistry | None = None,
    version: Any = 0,
    upgrade: Any = None,
    sleep: lru | None = None,
) -> tuple[Vat, Root]: ...
def spawn_persistent_vat(
    env: PersistenceEnv,
    spawn_roots: Callable[[], Any],
    store: Store | StorePart,
    *,
    persist_on: Literal["churn", "manual"] = "churn",
    vat_constructor: Callable[..., Vat] = Vat,
    name: str | None = None,
    log: bool = False,
    log_capacity: int = 256,
    persistence_registry: PersistenceRegistry | None = None,
    version: Any = 0,
    upgrade: Any = None,
    sleep: lru | None = None,
) -> tuple[Any, ...]:
    """Opens the vat that lives in a store, or makes it if the store is empty (PV-01 to PV-03).

    Args:
        env: the constructors of all actors that may be stored.
        spawn_roots: called in the new vat if the store is empty; returns a Ref, or a tuple (or list) of Refs.
        store: a store (its part "main"), or ``store.vat(name)``.
        name: the vat's name; without it that of the part.
        log, log_capacity: keep the last so many events.
        version: the version of the roots, any plain value.
        upgrade: what makes the roots of another version those of today: ``Migrations``, or a function that
            gets the stored version and the roots, and returns the new root or a tuple of them. The new roots,
            their version and all that the upgrade makes are written together; an error leaves the store as it
            was.
        vat_constructor: what makes the vat of the keywords it gets: ``Vat``, ``ManualVat``, ``AsyncioVat``,
            or a function that passes all its keywords on to one of them, with some of its own.
        sleep: which actors go back to the store when they are not used: ``lru(...)``. Without it an actor
            that was used stays in memory for as long as something refers to it.
        persistence_registry: where this vat finds those of other stores, and is found by them (PV-11). Vats
            of one store find each other without.
        persist_on: "churn": each churn is written before anybody outside sees its results. "manual": only
            ``vat.save()`` writes, all that has changed since the last save, in one batch; results wait for
            nothing, and what was not saved when the vat is closed, or its process ends, is lost (PV-05). New
            roots are written at once in both.

    Returns:
        The vat, then each root, in the order in which ``spawn_roots`` returned them.

    Raises:
        UnknownLabelError: the store has actors whose label is not in ``env``; the store is left as it was.
        MigrationError: the roots, or some actors, are stored with another version, and no upgrade leads from
            there to today's; the store is left as it was.
        NotPortableError: what ``spawn_roots`` made can't be stored; nothing is.
        StoreLockedError: another live vat is open on that part.
        StoreCorruptError: a record that is needed to open the vat is damaged.
        StoreError: the store failed, or is closed.
        BehaviorError: ``spawn_roots`` or ``upgrade`` returned no Ref, or ``version`` is no plain value.
        PersistenceError: what is stored of the vat can't be read.
        DeadlockError: this is a turn.
        TypeError, ValueError: an argument is none that may be given here.
        BaseException: what ``spawn_roots`` or ``upgrade`` raised; the store is left as it was.
    """
    if persist_on not in ("churn", "manual"):
        raise ValueError(f'persist_on is "churn" or "manual", not {persist_on!r}')
    if not callable(vat_constructor):
        raise TypeError(f"vat_constructor is a class of vats, such as ManualVat, not {vat_constructor!r}")
    if upgrade is not None and not callable(upgrade) and not isinstance(upgrade, Migrations):
        raise TypeError(f"upgrade is a Migrations or a function, not {upgrade!r}")
    if isinstance(upgrade, Migrations):
        upgrade._check("the roots", version)
    if sleep is not None and not isinstance(sleep, lru):
        raise TypeError(f"sleep is lru(...) or None, not {sleep!r}")
    if not (persistence_registry is None or isinstance(persistence_registry, PersistenceRegistry)):
        raise TypeError(f"persistence_registry is a PersistenceRegistry, not {persistence_registry!r}")
    if not isinstance(env, PersistenceEnv):
        raise TypeError(f"env is a PersistenceEnv, not {env!r}")
    if not callable(spawn_roots):
        raise TypeError(f"spawn_roots is a function that returns the roots, not {spawn_roots!r}")
    store, part = store_and_part(store)
    if not isinstance(log_capacity, int):
        raise TypeError(f"log_capacity is a number of events, at least 1, not {log_capacity!r}")
    if log_capacity < 1:
        raise ValueError(f"log_capacity is a number of events, at least 1, not {log_capacity}")
    if not (name is None or isinstance(name, str)):
        raise TypeError(f"the name of a vat is a str, not {name!r}")
    limits = (None, None) if sleep is None else (sleep.max_actors, sleep.max_bytes)
    opening = _Opening(env, store, part, limits, persistence_registry, persist_on == "manual")
    vat = vat_constructor(
        name=part if name is None else name, log=log, log_capacity=log_capacity, _opening=opening
    )
    return (vat, *opening.roots(vat, spawn_roots, version, upgrade))
