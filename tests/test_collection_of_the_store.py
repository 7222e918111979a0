"""What no root reaches leaves the store; nothing else does, whatever vats do meanwhile (LIM-07, LIM-08)."""

import os
import threading
from dataclasses import dataclass

import pytest
from goblins import (
    Actor,
    DeadlockError,
    List,
    Map,
    MemoryStore,
    PersistenceEnv,
    Ref,
    RocksStore,
    StoreError,
    VatClosedError,
    actor,
    copy_store,
    methods,
    send,
    spawn,
    spawn_persistent_vat,
)
from support import cell, collect, counter, must_not_run, run_child


@dataclass(frozen=True)
class Box:
    inner: object


class Node(Actor):
    links: list = []
    note: str = ""

    def link(self, other: Ref) -> None:
        self.links.append(other)

    def grow(self, note: str = "") -> Ref:
        made = spawn(Node, [], note)
        self.links.append(made)
        return made

    def cut(self, index: int = -1) -> None:
        del self.links[index]

    def at(self, index: int) -> Ref:
        return self.links[index]

    def count(self) -> int:
        return len(self.links)


GRAPH = PersistenceEnv("graph", Node, cell, records=[Box])


def cut(node, times=1):
    """Lets go of the last links. What a field was before its last change is kept until it is read again."""
    for _ in range(times):
        node.cut()
    node.count()


def removed(store):
    return store.collect().removed


class TestWhatGoesAndWhatStays:
    def test_an_actor_that_no_root_reaches_is_removed(self, place):
        """LIM-07"""
        _, root = place.spawn(lambda: spawn(Node), env=GRAPH)
        root.grow("kept")
        root.grow("lost").grow("lost too")
        cut(root)
        collect()
        report = place.store.collect()
        [part] = report.parts
        assert (part.name, part.kept, part.removed) == ("main", 2, 2)
        assert part.bytes > 20
        assert report.seconds > 0
        assert (report.kept, report.removed, report.bytes) == (2, 2, part.bytes)
        assert "2 actors removed" in str(report)
        assert removed(place.store) == 0

    def test_a_cycle_is_removed(self, place):
        """LIM-07"""
        vat, root = place.spawn(lambda: spawn(cell), env=GRAPH)
        with vat:
            one, two = spawn(cell), spawn(cell)
            one.put(two)
            two.put(one)
            root.put(one)
        del one, two
        root.put(None)
        collect()
        assert removed(place.store) == 2

    def test_what_only_a_ref_in_the_program_reaches_stays_until_that_is_gone(self, place):
        vat, root = place.spawn(lambda: spawn(Node), env=GRAPH)
        held = root.grow("held")
        held.grow("below")
        cut(root)
        collect()
        assert removed(place.store) == 0
        assert held.at(0).count() == 0
        # It may be referred to again.
        root.link(held)
        del held
        vat, root = place.restart(vat, env=GRAPH)
        assert root.at(0).at(0).count() == 0

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda ref: [ref],
            lambda ref: (1, (ref, 2)),
            lambda ref: {"key": ref},
            lambda ref: {ref: "value"},
            lambda ref: {ref},
            lambda ref: frozenset([ref]),
            lambda ref: Box(Box(ref)),
            lambda ref: Map(a=ref),
            lambda ref: List([ref]),
        ],
    )
    def test_a_reference_anywhere_in_a_value_keeps_its_actor(self, place, wrap):
        """LIM-08, STO-15"""
        vat, root = place.spawn(lambda: spawn(cell), env=GRAPH)
        with vat:
            root.put(wrap(spawn(cell, "inside")))
        vat, root = place.restart(vat, env=GRAPH)
        assert removed(place.store) == 0
        value = root.get()
        while not isinstance(value, Ref):
            value = value.inner if isinstance(value, Box) else next(iter(values(value)))
        assert value.get() == "inside"

    def test_pages_of_a_map_that_nobody_has_any_more_are_removed(self, place):
        vat, root = place.spawn(lambda: spawn(cell), env=GRAPH)
        with vat:
            root.put(Map({number: number for number in range(1000)}))
        root.put(None)
        collect()
        assert removed(place.store) > 2
        assert place.store.collect().kept == 1

    def test_a_part_without_a_live_vat_is_collected_too(self, place):
        vat, root = place.spawn(lambda: spawn(Node), env=GRAPH, part="idle")
        root.grow()
        cut(root)
        vat.close()
        _, other = place.spawn(lambda: spawn(Node), env=GRAPH)
        other.grow()
        found = {part.name: (part.kept, part.removed) for part in place.store.collect().parts}
        assert found == {"idle": (1, 1), "main": (2, 0)}
        _, root = place.spawn(must_not_run, env=GRAPH, part="idle")
        assert root.count() == 0

    def test_a_ref_of_a_closed_vat_keeps_nothing(self, place):
        """It can't be called; but what another vat has stored of it stays."""
        vat, root = place.spawn(lambda: spawn(Node), env=GRAPH)
        other, box = place.spawn(lambda: spawn(cell), env=GRAPH, part="other")
        held, named = root.grow("held"), root.grow("named")
        box.put(named)
        cut(root, 2)
        vat.close()
        collect()
        assert removed(place.store) == 1
        for ref in (held, named):
            with pytest.raises(VatClosedError):
                ref.count()
        other, box = place.restart(other, env=GRAPH, part="other")
        vat, root = place.spawn(must_not_run, env=GRAPH)
        assert send(box.get().count).result(30) == 0

    def test_an_empty_store_has_nothing_to_collect(self, place):
        assert place.store.collect().parts == ()


def values(value):
    if isinstance(value, dict | Map):
        return [*value.keys(), *value.values()] if isinstance(next(iter(value)), Ref) else value.values()
    return [item for item in value if isinstance(item, Ref | tuple)]


class TestBesideLiveVats:
    def test_vats_go_on_and_nothing_that_they_use_is_lost(self, place):
        """LIM-07"""
        vat, root = place.spawn(lambda: spawn(Node), env=GRAPH)
        for _ in range(50):
            root.grow()
        done = threading.Event()
        reports = []

        def keep_collecting():
            while not done.is_set():
                reports.append(place.store.collect())

        thread = threading.Thread(target=keep_collecting)
        thread.start()
        try:
            for number in range(300):
                moved = root.at(number % 50)
                root.cut(number % 50)
                # It hangs on nothing but this variable.
                moved.grow(str(number))
                root.link(moved)
                if number % 3 == 0:
                    root.at(0).grow("lost")
                    root.at(0).cut()
        finally:
            done.set()
            thread.join()
        del moved
        vat, root = place.restart(vat, env=GRAPH)
        place.store.collect()
        assert root.count() == 50
        total = 0
        for index in range(50):
            node = root.at(index)
            total += node.count()
            assert all(node.at(below).count() == 0 for below in range(node.count()))
        assert total == 300
        report = place.store.collect()
        assert (report.kept, report.removed) == (351, 0)
        assert sum(report.removed for report in reports) <= 100

    def test_a_call_in_a_turn_is_an_error(self, place):
        vat, _root = place.spawn(lambda: spawn(counter))
        with vat, pytest.raises(DeadlockError, match="can't be collected in a turn"):
            place.store.collect()

    def test_a_closed_store_says_so(self, place):
        place.store.close()
        with pytest.raises(StoreError, match="is closed"):
            place.store.collect()


class TestProgress:
    def test_it_is_told_how_far_it_is(self, place):
        _, root = place.spawn(lambda: spawn(Node), env=GRAPH)
        for _ in range(5):
            root.grow()
        cut(root)
        collect()
        told = []
        place.store.collect(lambda *now: told.append(now))
        phases = [phase for phase, _, _ in told]
        assert list(dict.fromkeys(phases)) == ["marking", "sweeping", "compacting"]
        assert all(0 <= done <= total for _, done, total in told)

    def test_its_error_ends_the_collection_which_may_begin_anew(self, place):
        _, root = place.spawn(lambda: spawn(Node), env=GRAPH)
        root.grow()
        cut(root)
        collect()

        def stop(phase, done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            place.store.collect(stop)
        assert removed(place.store) == 1

    def test_it_can_not_collect_the_same_store_which_would_wait_for_itself(self, place):
        _, root = place.spawn(lambda: spawn(Node), env=GRAPH)
        root.grow()
        cut(root)
        collect()
        refused = []

        def again(phase, done, total):
            with pytest.raises(DeadlockError, match="is being collected by this thread") as caught:
                place.store.collect()
            refused.append(caught.value)

        assert place.store.collect(again).removed == 1
        assert refused
        assert removed(place.store) == 0

    def test_it_may_collect_another_store(self, place):
        with MemoryStore() as other:
            reports = []
            place.spawn(lambda: spawn(Node), env=GRAPH)
            place.store.collect(lambda *now: reports.append(other.collect()))
        assert reports

    @pytest.mark.parametrize("when", ["marking", "sweeping", "compacting"])
    def test_it_may_close_the_store_which_ends_the_collection(self, place, when):
        _, root = place.spawn(lambda: spawn(Node), env=GRAPH)
        root.grow()
        cut(root)
        collect()
        phases = []

        def close(phase, done, total):
            phases.append(phase)
            if phase == when:
                place.store.close()

        with pytest.raises(StoreError, match="is closed"):
            place.store.collect(close)
        assert phases[-1] == when
        with pytest.raises(VatClosedError):
            root.count()


class TestByItself:
    # More than the least that makes it begin.
    MANY = 11_000

    def fill(self, store):
        vat, root = spawn_persistent_vat(GRAPH, lambda: spawn(Node), store)
        root.grow("lost")
        cut(root)
        with vat:
            for _ in range(self.MANY):
                spawn(Node)
        root.grow("kept")
        return root

    @pytest.mark.parametrize("kind", ["memory", "rocks"])
    def test_a_store_that_has_grown_is_collected_in_the_background(self, tmp_path, kind):
        """LIM-07"""
        options = {"keep_generations": 0}
        store = MemoryStore(**options) if kind == "memory" else RocksStore(tmp_path / "store", **options)
        with store:
            _root = self.fill(store)
            # It has a thread of its own. The test's time limit ends a wait in vain.
            while lost(store):
                pass

    def test_it_can_be_switched_off(self, tmp_path):
        with RocksStore(tmp_path / "store", auto_collect=False) as store:
            _root = self.fill(store)
            collect()
            assert not any(name.startswith("goblins-collec") for name in native_threads())
            assert lost(store) == 1

    def test_it_keeps_no_process_from_ending(self, tmp_path):
        code = f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_collection_of_the_store import *
store = RocksStore({str(tmp_path / "store")!r}, sync=False)
vat, root = spawn_persistent_vat(GRAPH, lambda: spawn(cell), store)
for _ in range(30):
    with vat:
        for _ in range(1000):
            root.put(spawn(cell))
print("done")
"""
        ended = run_child("run_code.py", code)
        assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr
        assert "Traceback" not in ended.stderr


def lost(store):
    """How many actors could be collected, found out in a copy."""
    with MemoryStore(auto_collect=False) as copy:
        copy_store(store, copy)
        return copy.collect().removed


def native_threads():
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("threads have names that can be read on Linux only")
    names = []
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/comm") as comm:
            names.append(comm.read().strip())
    return names


def test_a_collection_that_is_killed_has_lost_nothing(tmp_path):
    """LIM-09"""
    code = f"""
import os, signal, sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_collection_of_the_store import *
store = RocksStore({str(tmp_path / "store")!r}, auto_collect=False)
vat, root = spawn_persistent_vat(GRAPH, lambda: spawn(Node), store)
with vat:
    for number in range(6000):
        root.grow(str(number))
with vat:
    cut(root, 5000)
root.count()
def die(phase, done, total):
    if phase == "sweeping" and done > 3000:
        os.kill(os.getpid(), signal.SIGKILL)
store.collect(die)
"""
    ended = run_child("run_code.py", code)
    assert ended.returncode == -9, ended.stderr
    with RocksStore(tmp_path / "store") as store:
        _, root = spawn_persistent_vat(GRAPH, must_not_run, store)
        assert root.count() == 1000
        assert [root.at(index).count() for index in range(1000)] == [0] * 1000
        report = store.collect()
        assert report.kept == 1001
        # Some were gone already.
        assert 0 < report.removed < 5000


def test_the_room_is_given_back(tmp_path):
    folder = tmp_path / "store"

    def size():
        return sum(file.stat().st_size for file in folder.glob("*.sst"))

    with RocksStore(folder, auto_collect=False) as store:
        vat, root = spawn_persistent_vat(GRAPH, lambda: spawn(Node), store)
        with vat:
            for _ in range(2000):
                root.grow(os.urandom(500).hex())
    with RocksStore(folder, auto_collect=False) as store:
        vat, root = spawn_persistent_vat(GRAPH, must_not_run, store)
        before = size()
        assert before > 1_000_000
        with vat:
            cut(root, 1990)
        root.count()
        collect()
        assert store.collect().bytes > 1_990_000
        assert size() < before / 10


def test_functional_actors_are_collected_too(place):
    @actor
    def chain(bcom, below=None):
        def grow():
            return bcom(chain(bcom, spawn(chain, below)))

        def drop():
            return bcom(chain(bcom))

        return methods(grow=grow, drop=drop)

    env = PersistenceEnv("chain", chain)
    _, root = place.spawn(lambda: spawn(chain), env=env)
    for _ in range(10):
        root.grow()
    root.drop()
    collect()
    assert removed(place.store) == 10


class TestReferencesOfOtherVats:
    def test_an_actor_that_only_another_vat_of_the_store_refers_to_stays_until_that_lets_go(self, place):
        here, root = place.spawn(lambda: spawn(cell), part="here")
        there, other = place.spawn(lambda: spawn(cell), part="there")
        made = there.spawn(cell, "far")
        root.put([made])
        there.drain(timeout=30)
        del made
        collect()
        assert found(place.store) == {"here": (1, 0), "there": (2, 0)}
        here.close()
        there.close()
        place.reopen()
        assert found(place.store) == {"here": (1, 0), "there": (2, 0)}
        _here, root = place.spawn(must_not_run, part="here")
        _there, other = place.spawn(must_not_run, part="there")
        [promise] = root.get()
        assert send(promise.get).result(timeout=30) == "far"
        assert found(place.store) == {"here": (1, 0), "there": (2, 0)}
        root.put(None)
        del promise
        collect()
        # The promise that stood for it is gone with the next churn at the latest.
        assert other.get() is None
        root.put(1)
        collect()
        assert found(place.store) == {"here": (1, 0), "there": (1, 1)}

    def test_what_such_an_actor_refers_to_stays_too(self, place):
        _here, root = place.spawn(lambda: spawn(cell), part="here")
        there, _other = place.spawn(lambda: spawn(cell), part="there")
        with there:
            made = spawn(cell, spawn(cell, "below"))
        root.put(made)
        there.drain(timeout=30)
        there.close()
        del made
        collect()
        assert found(place.store) == {"here": (1, 0), "there": (3, 0)}

    def test_an_actor_that_a_vat_of_another_store_refers_to_stays(self, place, tmp_path):
        there, other = place.spawn(lambda: spawn(cell))
        with RocksStore(tmp_path / "elsewhere") as elsewhere:
            _vat, root = spawn_persistent_vat(GRAPH, lambda: spawn(cell), elsewhere)
            made = there.spawn(cell, "far")
            lost = there.spawn(cell, "lost")
            other.put(lost)
            other.put(None)
            root.put(made)
            there.drain(timeout=30)
        del made, lost, _vat, root
        collect()
        assert found(place.store) == {"main": (2, 1)}
        there.close()
        place.reopen()
        # This store can't know whether the other one still does.
        assert found(place.store) == {"main": (2, 0)}


def found(store):
    """What stays and what was removed, of each part."""
    return {part.name: (part.kept, part.removed) for part in store.collect().parts}
