"""Actors and helpers that several test files use."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import goblins
import pytest
from goblins import (
    Actor,
    List,
    Map,
    MemoryStore,
    PersistenceEnv,
    RocksStore,
    Set,
    Vat,
    actor,
    field,
    methods,
    spawn_persistent_vat,
)

CHILDREN = Path(__file__).parent / "children"


@actor
def counter(bcom, value=0):
    def tick():
        return bcom(counter(bcom, value + 1), value)

    return tick


@actor
def cell(bcom, value=None):
    def get():
        return value

    def put(new):
        return bcom(cell(bcom, new))

    return methods(get=get, put=put)


def failing(bcom):
    """Raises what it is sent."""

    def fail(error):
        raise error

    return fail


def echo(bcom):
    """Answers what it is sent."""

    def answer(value):
        return value

    return answer


def caller(bcom):
    """Calls what it is sent, and answers the result."""

    def call(fn, *args, **kwargs):
        return fn(*args, **kwargs)

    return call


ENV = PersistenceEnv("test", counter, cell)

KINDS = [Map, List, Set]


class Box(Actor):
    """Holds anything."""

    map: Map = field(default_factory=Map)
    list: List = field(default_factory=List)
    set: Set = field(default_factory=Set)
    value: object = None

    def parts(self):
        return self.map, self.list, self.set

    def put(self, value):
        self.value = value

    def get(self):
        return self.value

    def do(self, change):
        return change(self)


BOX_ENV = PersistenceEnv("test", Box)


def make_in_vat(vat: Vat, kind: type, *args: Any) -> Any:
    """A collection, or what else is made in a turn."""
    return vat.run(kind, *args)


class Boom(Exception):
    """What tests raise on purpose."""


class Place:
    """A store that can be left and opened again, as a new process would do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = self.open()

    def open(self) -> Any:
        raise NotImplementedError

    def reopen(self) -> Any:
        """Opens the store again. All its vats must be closed, or are closed by this."""
        raise NotImplementedError

    def restart(self, *vats: Any, env: PersistenceEnv = ENV, part: str | None = None, **options: Any) -> Any:
        """Closes the vats, opens the store again, and opens the vat that stands in it."""
        for vat in vats:
            vat.close()
        self.reopen()
        return self.spawn(must_not_run, env=env, part=part, **options)

    def spawn(
        self,
        roots: Callable[[], Any],
        *,
        env: PersistenceEnv = ENV,
        part: str | None = None,
        **options: Any,
    ) -> Any:
        store = self.store if part is None else self.store.vat(part)
        return spawn_persistent_vat(env, roots, store, **options)


class MemoryPlace(Place):
    def open(self) -> MemoryStore:
        return MemoryStore()

    def reopen(self) -> MemoryStore:
        return self.store


class RocksPlace(Place):
    def open(self) -> RocksStore:
        return RocksStore(self.folder / "store.db", sync=False)

    def reopen(self) -> RocksStore:
        self.store.close()
        self.store = self.open()
        return self.store


PLACES = {"memory": MemoryPlace, "rocks": RocksPlace}


@contextmanager
def failing_turn(vat: Any, error: Any = Boom) -> Iterator[Any]:
    """A block of that vat which must end with that error."""
    with pytest.raises(error) as caught, vat:
        yield caught


def must_not_run() -> Any:
    raise AssertionError("the roots are in the store: their constructor must not run again")


def collect() -> None:
    """Collects garbage until nothing more is found."""
    for _ in range(5):
        if not gc.collect():
            return


def child_environment() -> dict[str, str]:
    """The environment in which a child finds the package that is tested here, without a site folder."""
    package = Path(goblins.__file__).resolve().parent.parent
    paths = [str(package), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}


def child_command(script: str | Path, *args: Any, options: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *options, str(CHILDREN / script), *map(str, args)]


def run_child(
    script: str | Path, *args: Any, options: tuple[str, ...] = (), timeout: float = 60
) -> subprocess.CompletedProcess:
    """Runs a script to its end. The time limit only keeps a hang from lasting."""
    return subprocess.run(
        child_command(script, *args, options=options),
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextmanager
def running_child(script: str | Path, *args: Any, **popen: Any) -> Iterator[subprocess.Popen]:
    """A child that is talked to while it runs, and killed in the end if it lives on."""
    popen.setdefault("stdout", subprocess.PIPE)
    popen.setdefault("stdin", subprocess.DEVNULL)
    with subprocess.Popen(child_command(script, *args), env=child_environment(), **popen) as child:
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()
