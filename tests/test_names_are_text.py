"""Names are stored: what has no UTF-8, and what is no path, is refused where it is given."""

import dataclasses
import os
import threading

import pytest
from goblins import (
    Actor,
    ManualVat,
    MemoryStore,
    PersistenceEnv,
    RocksStore,
    Vat,
    actor,
    spawn,
    spawn_named,
    spawn_persistent_vat,
)
from support import counter

HALF = "a\ud800"


@dataclasses.dataclass
class Note:
    text: str = ""


def labelled():
    class Labelled(Actor, label=HALF):
        x: int = 0

    return Labelled


WAYS = {
    "part": lambda: MemoryStore().vat(HALF),
    "vat": lambda: Vat(HALF),
    "vat by hand": lambda: ManualVat(name=HALF),
    "stored vat": lambda: spawn_persistent_vat(
        PersistenceEnv("e", counter), lambda: spawn(counter), MemoryStore(), name=HALF
    ),
    "label": lambda: actor(label=HALF),
    "label of a class": labelled,
    "namespace": lambda: PersistenceEnv(HALF, counter),
    "namespace of records": lambda: PersistenceEnv(HALF, records=[Note]),
    "label in an environment": lambda: PersistenceEnv({HALF: counter}),
    "record": lambda: PersistenceEnv("e", records={HALF: Note}),
    "alias": lambda: PersistenceEnv("e", counter, aliases={HALF: counter}),
}


@pytest.mark.parametrize("give", WAYS.values(), ids=WAYS)
def test_half_a_character_is_no_part_of_a_name(give):
    with pytest.raises(ValueError, match=r"is text without lone surrogates, not '.*a\\ud800'") as caught:
        give()
    assert not isinstance(caught.value, UnicodeError)


def test_nor_of_the_name_of_an_actor(vat):
    with pytest.raises(ValueError, match="the name of an actor is text without lone surrogates"):
        vat.run(spawn_named, HALF, counter)
    assert "b\u20ac" in repr(vat.run(spawn_named, "b\u20ac", counter))


def test_no_method_has_such_a_name(vat):
    ref = vat.spawn(counter)
    for target in (ref, vat.run(lambda: spawn(counter).tick)):
        assert not hasattr(target, HALF)


@pytest.mark.parametrize("give", [lambda: MemoryStore().vat(5), lambda: actor(label=5), lambda: Vat(5)])
def test_a_name_is_a_str(give):
    with pytest.raises(TypeError, match="is a str, not 5"):
        give()


@pytest.mark.parametrize("path", [HALF, "a\0b", b"a\0b"], ids=ascii)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_path_that_no_system_has_is_refused(tmp_path, path, read_only):
    path = os.path.join(os.fsencode(tmp_path) if isinstance(path, bytes) else str(tmp_path), path)
    with pytest.raises(ValueError, match="the path of a store") as caught:
        (RocksStore._open_read_only if read_only else RocksStore)(path)
    assert not isinstance(caught.value, UnicodeError)
    assert not list(tmp_path.iterdir())


def test_a_path_of_any_bytes_is_one(tmp_path):
    path = os.fsencode(tmp_path) + b"/\x80"
    with RocksStore(path, sync=False) as store:
        assert os.fsencode(store.path) == path
    RocksStore(os.fsdecode(path), sync=False).close()


def test_a_thread_of_any_name_waits_for_a_vat(vat):
    done = []
    waits = threading.Thread(target=lambda: done.append(vat.spawn(counter)()), name=HALF)
    waits.start()
    waits.join()
    assert done == [0]


def test_no_field_of_a_portrait_by_hand_has_such_a_name():
    @actor(portrait=lambda **_: {HALF: 1})
    def odd(bcom):
        return lambda: None

    with (
        MemoryStore() as store,
        pytest.raises(ValueError, match="field in the portrait of odd.*surrogates") as caught,
    ):
        spawn_persistent_vat(PersistenceEnv("e", odd), lambda: spawn(odd), store)
    assert not isinstance(caught.value, UnicodeError)
