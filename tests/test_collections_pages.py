"""The pages of Map, List and Set: a change writes few of them, and they go when they are empty (G5, G7)."""

import gc
import itertools

import pytest
from goblins import (
    Actor,
    FarCallError,
    List,
    Map,
    MemoryStore,
    PersistenceEnv,
    Ref,
    Set,
    _goblins,
    _pages,
    field,
    spawn,
    spawn_persistent_vat,
)
from support import BOX_ENV, KINDS, Box, RocksPlace, collect, make_in_vat


class TestWhatIsWritten:
    @pytest.fixture
    def records(self):
        """A function that tells how many actors' records a call writes."""
        store = MemoryStore()
        vat, box = spawn_persistent_vat(BOX_ENV, lambda: spawn(Box), store)
        yield box, lambda change: pages_changed(vat, change)
        vat.close()
        store.close()

    def test_a_new_value_for_a_key_changes_one_page(self, records):
        box, changed = records
        table = box.parts()[0]
        table.update((number, number) for number in range(5000))
        for key in (0, 2500, 4999):
            assert changed(lambda key=key: table.__setitem__(key, "new")) == 1
        assert changed(lambda: table.__setitem__(0, "new")) == 0
        assert changed(lambda: table.get("no")) == 0

    def test_a_new_key_and_a_deletion_change_three_pages(self, records):
        box, changed = records
        table = box.parts()[0]
        table.update((number, number) for number in range(5000))
        counts = [changed(lambda key=key: table.__setitem__(key, 1)) for key in map(str, range(30))]
        assert counts.count(3) >= 25
        assert max(counts) <= 8
        assert changed(lambda: table.__delitem__(2500)) == 3

    def test_a_list_changes_few_pages(self, records):
        box, changed = records
        items = box.parts()[1]
        items.extend(range(20_000))
        assert changed(lambda: items.__setitem__(10_000, "new")) == 1
        counts = [changed(lambda: items.append(1)) for _ in range(30)]
        assert counts.count(2) >= 25
        assert max(counts) <= 5
        assert changed(items.pop) == 2
        assert changed(lambda: items.insert(10_000, "x")) <= 6

    def test_pages_that_become_empty_go(self, vat):
        collect()
        before = refs_alive()
        table, items, members = make_in_vat(vat, Map), make_in_vat(vat, List), make_in_vat(vat, Set)
        few = refs_alive() - before
        with vat:
            table.update((number, number) for number in range(10_000))
            items.extend(range(10_000))
            members.update(range(10_000))
        assert refs_alive() - before > 300
        with vat:
            for number in range(10_000):
                del table[number]
                members.remove(number)
                items.pop()
        collect()
        assert refs_alive() - before == few
        with vat:
            for number in range(3000):
                table[number] = items.append(number)
                if number >= 100:
                    del table[number - 100], items[0]
        assert refs_alive() - before < 40
        assert list(table) == list(items) == list(range(2900, 3000))

    def test_pages_stay_small_whatever_their_values_are(self, records):
        box, _ = records
        table = box.parts()[0]
        table.update((number, "") for number in range(500))
        for number in range(500):
            table[number] = "x" * 1000
        assert box.do(lambda self: heaviest(self.map)) <= 2 * _pages.MOST_BYTES
        assert list(table) == list(range(500))

    def test_what_was_not_touched_is_not_in_memory(self, tmp_path):
        place = RocksPlace(tmp_path)
        vat, box = place.spawn(lambda: spawn(Box), env=BOX_ENV)
        box.parts()[0].update((f"key {number}", number) for number in range(50_000))
        del box
        vat, box = again(place, vat)
        collect()
        before = refs_alive()
        table = box.parts()[0]
        assert table["key 777"] == 777
        assert len(table) == 50_000
        assert refs_alive() - before < 400
        vat.close()
        place.store.close()


def again(place, vat):
    return place.restart(vat, env=BOX_ENV)


def refs_alive():
    return sum(type(thing) is Ref for thing in gc.get_objects())


def all_pages(collection):
    """The states of all pages of a collection, by page."""
    found, todo = {}, [collection._root]
    while todo:
        page = todo.pop()
        state = found[page] = _goblins._page(page)
        for part in state[1:]:
            parts = part if isinstance(part, list) else [part]
            todo.extend(one for one in parts if type(one) is Ref and one not in found)
    return found


def heaviest(table):
    return max(
        sum(map(_pages.weight, [*state[3], *state[4]]))
        for state in all_pages(table).values()
        if len(state) == 5
    )


def pages_changed(vat, change):
    """How many pages a change writes: those that are others than before, and the new ones."""
    seen = {}
    collections = [it for it in gc.get_objects() if type(it) in KINDS and it._root is not None]
    roots = [it for it in collections if near(vat, it)]
    with vat:
        for it in roots:
            seen.update(all_pages(it))
    change()
    with vat:
        now = dict(itertools.chain.from_iterable(all_pages(it).items() for it in roots))
    return sum(page not in seen or seen[page] is not state for page, state in now.items())


def near(vat, it):
    try:
        return vat.run(it._is_near)
    except FarCallError:
        return False


class Bag(Actor):
    keys: Map = field(default_factory=Map)
    members: Set = field(default_factory=Set)

    def add(self, added):
        for one in added:
            self.keys[one] = one
            self.members.add(one)

    def drop(self, dropped):
        for one in dropped:
            del self.keys[one]
            self.members.remove(one)

    def found(self, wanted):
        return [one for one in wanted if one in self.keys and one in self.members]


@pytest.mark.parametrize("count", [300, 5000])
def test_all_is_found_when_nearly_all_went_and_others_came(place, count):
    """The pages that lead to the first ones go with these, and lead to others then."""
    env = PersistenceEnv("pages", Bag)
    vat, bag = place.spawn(lambda: spawn(Bag), env=env)
    there = []
    for turn in range(4):
        new = list(range(turn * 10_000, turn * 10_000 + count))
        bag.add(new)
        there += new
        assert bag.found(there) == there
        bag.drop(there[:-3])
        there = there[-3:]
        vat, bag = place.restart(vat, env=env)
        assert bag.found(there) == there
