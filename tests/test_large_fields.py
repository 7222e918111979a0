"""Large containers in fields: what they hold is copied once for any number of turns that only read it, and a
change is undone and stored as that of a small one (G1, G8)."""

import gc
import tracemalloc
import weakref

import pytest
from goblins import Actor, PersistenceEnv, Vat, send, spawn
from support import Boom

#: More than is copied anew for each turn.
MANY = 2000


class Shelf(Actor):
    table: dict = {}
    items: list = []
    marks: set = set()
    raw: bytearray = bytearray()
    rows: list = []
    spare: object = None

    def fill(self, count):
        self.table = {number: [number] if number % 100 == 0 else number for number in range(count)}
        self.items = list(range(count))
        self.marks = set(range(count))
        self.raw = bytearray(count)
        self.rows = [[number] for number in range(count)]

    def state(self):
        return self.table, self.items, self.marks, self.raw, self.rows, self.spare

    def look_at_all(self):
        return len(self.table) + len(self.items) + len(self.marks) + len(self.raw) + len(self.rows)

    def run(self, change, fails=False):
        answer = change(self)
        if fails:
            raise Boom
        return answer

    async def run_later(self, first, change):
        seen = first(self)
        await send(self.ref.look_at_all)
        change(seen)


ENV = PersistenceEnv("large", Shelf)


def shelf():
    made = spawn(Shelf)
    made.fill(MANY)
    return made


def copied_by(call):
    """How many bytes were taken at once, at most."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


READS = {
    "dict": lambda self: self.table[7],
    "list": lambda self: len(self.items),
    "set": lambda self: 7 in self.marks,
    "nested": lambda self: self.rows[7][0],
}


class TestReading:
    @pytest.mark.parametrize("read", READS.values(), ids=READS)
    def test_a_container_that_is_only_read_is_copied_once(self, place, read):
        _, shelf_ = place.spawn(shelf, env=ENV)
        # What is read for the first time is, and so this would find copies.
        assert copied_by(lambda: shelf_.run(read)) > 8 * MANY
        for _ in range(3):
            assert copied_by(lambda: shelf_.run(read)) < 4 * MANY

    def test_a_turn_that_failed_is_the_end_of_the_copy(self, vat):
        box = vat.run(shelf)
        box.run(READS["dict"])
        with pytest.raises(Boom):
            box.run(lambda self: self.table.clear(), fails=True)
        assert box.run(READS["dict"]) == 7
        assert copied_by(lambda: box.run(READS["dict"])) < 4 * MANY

    def test_a_turn_that_fails_without_a_change_leaves_all_as_it_is(self, vat):
        box = vat.run(shelf)
        before = box.state()
        for _ in range(3):
            with pytest.raises(Boom):
                box.run(Shelf.look_at_all, fails=True)
            assert box.state() == before


def replace_row(self):
    self.rows[3] = [99]


def deep(self):
    self.rows[5].append("x")
    self.table[100].append("y")


def all_of_them(self):
    self.table[-1] = "new"
    del self.table[0]
    self.items.reverse()
    self.marks.discard(3)
    self.raw[0] = 1
    self.rows.pop()


def empty_all(self):
    for container in (self.table, self.items, self.marks, self.raw, self.rows):
        container.clear()


def order_only(self):
    self.table[5] = self.table.pop(5)


def swap(self):
    self.items, self.rows = self.rows, self.items


def move(self):
    self.spare, self.rows = self.rows, []
    self.spare.append([1])


def same_again(self):
    self.table[1] = 1
    self.items[700] = int("700")


CHANGES = [replace_row, deep, all_of_them, order_only, swap, move]


class TestChanging:
    @pytest.mark.parametrize("change", CHANGES)
    @pytest.mark.parametrize("turns", [0, 1, 3])
    def test_a_change_after_turns_that_read_is_undone(self, vat, change, turns):
        box = vat.run(shelf)
        before = box.state()
        for _ in range(turns):
            box.look_at_all()
        for _ in range(2):
            with pytest.raises(Boom):
                box.run(change, fails=True)
            assert box.state() == before
            assert list(box.state()[0]) == list(before[0])

    @pytest.mark.parametrize("change", CHANGES)
    @pytest.mark.parametrize("turns", [0, 3])
    def test_a_change_after_turns_that_read_is_stored(self, place, change, turns):
        vat, box = place.spawn(shelf, env=ENV)
        for _ in range(turns):
            box.look_at_all()
        box.run(change)
        now = box.state()
        for _ in range(turns):
            box.look_at_all()
        with pytest.raises(Boom):
            box.run(empty_all, fails=True)
        assert box.state() == now
        _, again = place.restart(vat, env=ENV)
        assert again.state() == now
        assert list(again.state()[0]) == list(now[0])

    def test_what_stays_the_same_is_not_written(self, rocks):
        _, box = rocks.spawn(shelf, env=ENV)
        box.look_at_all()
        before = box.state()
        size = sum(path.stat().st_size for path in rocks.folder.rglob("*.log"))
        for _ in range(2):
            box.run(same_again)
            box.look_at_all()
        assert sum(path.stat().st_size for path in rocks.folder.rglob("*.log")) == size
        assert box.state() == before

    def test_turns_that_change_and_turns_that_read_take_turns(self, vat):
        box = vat.run(shelf)
        expected = list(range(MANY))
        for number in range(5):
            box.run(lambda self, number=number: self.items.append(number))
            expected.append(number)
            box.look_at_all()
            with pytest.raises(Boom):
                box.run(lambda self: self.items.clear(), fails=True)
            assert box.state()[1] == expected

    def test_a_container_that_was_moved_into_another_field_has_no_part_in_both(self, vat):
        box = vat.run(shelf)
        box.look_at_all()

        def share(self):
            self.spare = self.rows[0]

        box.run(share)
        box.run(lambda self: self.rows[0].append("rows"))
        box.run(lambda self: self.spare.append("spare"))
        assert (box.state()[4][0], box.state()[5]) == ([0, "rows"], [0, "spare"])
        with pytest.raises(Boom):
            box.run(lambda self: self.spare.clear(), fails=True)
        assert box.state()[5] == [0, "spare"]

    async def test_code_that_goes_on_after_a_wait_changes_what_it_read_before(self, vat):
        box = vat.run(shelf)
        box.look_at_all()
        await send(box.run_later, lambda self: self.rows, lambda rows: rows.append("late"))
        assert box.state()[4][-1] == "late"

    def test_looking_back_shows_what_was_and_leaves_what_is(self):
        vat = Vat(log=True)
        box = vat.run(shelf)
        box.look_at_all()
        lengths = []
        for number in range(3):
            box.run(lambda self, number=number: self.items.append(number))
            box.look_at_all()
            lengths.append(MANY + number + 1)
        seen = [event.peek(box.run, READS["list"]) for event in vat.log.tail(6)]
        assert [one for one in seen if one is not None][-1] == lengths[-1]
        assert sorted(set(seen)) == lengths
        assert box.run(READS["list"]) == lengths[-1]
        with pytest.raises(Boom):
            box.run(all_of_them, fails=True)
        assert len(box.state()[1]) == lengths[-1]
        vat.close()


class TestHandingOut:
    @pytest.mark.parametrize("turns", [0, 2])
    @pytest.mark.parametrize(
        "what", [lambda self: self.rows, lambda self: self.rows[8], lambda self: (self.table,)]
    )
    def test_what_leaves_its_actor_is_a_copy_in_any_turn(self, vat, what, turns):
        box = vat.run(shelf)
        for _ in range(turns):
            box.look_at_all()
        before = box.state()
        answer = box.run(what)
        answer[0].clear() if isinstance(answer, tuple) else answer.append("outside")
        assert box.state() == before

    def test_what_is_given_to_another_actor_is_a_copy_in_any_turn(self, vat):
        box, other = vat.run(shelf), vat.run(shelf)
        box.look_at_all()
        other.look_at_all()

        def take(value):
            return lambda self: setattr(self, "spare", value)

        box.run(lambda self: other.run(take(self.rows)))
        other.run(lambda self: self.spare.append("theirs"))
        assert box.state()[4] == [[number] for number in range(MANY)]


class Ring(Actor):
    others: list = []

    def close(self):
        self.others = [self.ref] * MANY

    def count(self):
        return len(self.others)


def test_the_collector_sees_through_what_is_kept():
    vat = Vat()
    ring = vat.spawn(Ring)
    ring.close()
    for _ in range(3):
        assert ring.count() == MANY
    gone = weakref.ref(ring)
    del ring
    gc.collect()
    assert gone() is None
    vat.close()
