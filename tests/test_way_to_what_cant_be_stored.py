"""The error for what can't be stored tells the whole way to it, from a root (G8, POR-08, PV-16).

The turn that wanted to keep it is undone, and the next one works.
"""

import pytest
from goblins import (
    Actor,
    Map,
    MigrationError,
    NotPortableError,
    PersistenceEnv,
    actor,
    field,
    methods,
    on,
    send,
    spawn,
    tell,
)
from support import BOX_ENV, Boom, Box, caller, cell, collect, counter, failing_turn


class Account(Actor):
    owner: str
    history: list = []

    def note(self, entry):
        self.history.append(entry)

    def entries(self):
        return self.history


class Bank(Actor):
    accounts: dict = {}
    index: Map = field(default_factory=Map)

    def open(self, owner):
        self.accounts[owner] = spawn(Account, owner)
        return self.accounts[owner]

    def account(self, owner):
        return self.accounts[owner]

    def enter(self, key, value):
        self.index[key] = value


@actor
def shelf(bcom, *items, first=None, **more):
    def put(*items, **more):
        return bcom(shelf(bcom, *items, **more))

    return methods(put=put, items=lambda: items)


ENV = PersistenceEnv("bank", Account, Bank, cell, counter, shelf)


def trail(vat, body):
    """What the error of a turn tells; it is in the message as well."""
    with failing_turn(vat, NotPortableError) as caught:
        body()
    error = caught.value
    assert str(error).endswith(f"({error.trail})")
    return error.trail


@pytest.fixture
def bank(place):
    return place.spawn(lambda: (spawn(counter), spawn(Bank)), env=ENV)


class TestTheWay:
    def test_from_a_root_over_fields_to_an_actor_without_a_portrait(self, bank):
        """The end is the actor itself."""
        vat, _, bank = bank
        ada = bank.open("Ada")
        told = trail(vat, lambda: ada.note(spawn(lambda bcom: lambda: None)))
        slots = _slots(ada, bank)
        assert told.startswith(
            f"root 1 -> bank.Bank#{slots[1]}.accounts -> bank.Account#{slots[0]}.history -> "
        )
        assert "<lambda>#" in told

    def test_to_a_value(self, bank):
        """The end is the value."""
        vat, _, bank = bank
        ada = bank.open("Ada")
        assert trail(vat, lambda: ada.note({"by": [lambda: None]})).endswith(
            f"bank.Account#{_slots(ada)[0]}.history[0].by[0] -> function "
            "(TestTheWay.test_to_a_value.<locals>.<lambda>.<locals>.<lambda>)"
        )

    def test_in_a_root_itself(self, place):
        vat, box = place.spawn(lambda: spawn(cell), env=ENV)
        assert (
            trail(vat, lambda: box.put([1, {2: object()}])) == "root 0 -> bank.cell#0.value[1][2] -> object"
        )

    def test_over_actors_that_are_new_in_this_turn(self, place):
        vat, box = place.spawn(lambda: spawn(cell), env=ENV)

        def body():
            box.put(spawn(shelf, 1, first=spawn(shelf, extra=("x", spawn(cell, print)))))

        told = trail(vat, body)
        steps = [step.split("#")[0] + "." + step.split(".")[-1] for step in told.split(" -> ")[1:-1]]
        assert steps == ["bank.cell.value", "bank.shelf.first", "bank.shelf.more", "bank.cell.value"]
        assert told.endswith(" -> builtin_function_or_method")

    def test_over_actors_that_are_not_in_memory(self, place):
        def roots():
            return spawn(cell, spawn(shelf, 0, spawn(cell, [spawn(Account, "Ada")])))

        vat, _ = place.spawn(roots, env=ENV)
        vat, box = place.restart(vat, env=ENV)
        found = []
        with failing_turn(vat):
            found.append(box.get().items()[1].get()[0])
            raise Boom
        collect()
        told = trail(vat, lambda: found[0].note(print))
        assert [step.split("#")[0] for step in told.split(" -> ")[1:-1]] == [
            "bank.cell",
            "bank.shelf",
            "bank.cell",
            "bank.Account",
        ]
        assert ".items -> " in told

    def test_over_the_pages_of_a_collection(self, bank):
        vat, _, bank = bank
        account = bank.open("Ada")
        bank.enter("first", 1)
        told = trail(vat, lambda: bank.enter("second", lambda: None))
        assert told.startswith(f"root 1 -> bank.Bank#{_slots(bank)[0]}.index -> goblins.")
        assert account.entries() == []

    def test_by_what_the_turn_has_changed_and_not_by_what_is_stored(self, place):
        vat, one, two = place.spawn(lambda: (spawn(cell, spawn(cell)), spawn(cell)), env=ENV)

        def body():
            moved = one.get()
            one.put(None)
            two.put(moved)
            moved.put(print)

        assert trail(vat, body).startswith("root 1 -> ")

    def test_among_the_first_roots(self, place):
        with pytest.raises(NotPortableError) as caught:
            place.spawn(lambda: (spawn(counter), spawn(cell, [spawn(caller)])), env=ENV)
        assert caught.value.trail.startswith("root 1 -> bank.cell#")
        assert ".value -> caller#" in caught.value.trail

    def test_to_an_actor_whose_constructor_is_not_in_the_environment(self, place):
        vat, box = place.spawn(lambda: spawn(cell), env=PersistenceEnv("bank", cell))
        told = trail(vat, lambda: box.put(spawn(counter)))
        assert told.startswith("root 0 -> bank.cell#0.value -> counter#")

    def test_a_long_chain_is_followed_to_its_end(self, place):
        def roots():
            end = last = spawn(cell)
            for _ in range(3000):
                last = spawn(cell, last)
            ends.append(end)
            return last

        ends = []
        vat, _ = place.spawn(roots, env=ENV)
        assert trail(vat, lambda: ends[0].put(print)).count(" -> ") == 3002


def _slots(*refs):
    return [int(repr(ref).split("#")[1].split(" ")[0]) for ref in refs]


class TestTheTurn:
    def test_it_is_undone_and_the_next_one_works(self, bank, place):
        vat, ticks, bank = bank
        ada = bank.open("Ada")

        def body():
            ticks()
            ada.note("first")
            ada.note(lambda: None)

        trail(vat, body)
        ada.note("second")
        assert (ticks(), ada.entries()) == (0, ["second"])
        _, ticks, bank = place.restart(vat, env=ENV)
        assert (ticks(), bank.account("Ada").entries()) == (1, ["second"])

    def test_in_the_middle_of_a_churn_the_turns_around_it_are_kept(self, bank):
        vat, ticks, bank = bank
        ada = bank.open("Ada")
        with vat:
            tell(ticks)
            failed = send(ada.note, lambda: None)
            on(failed, catch=lambda error: ada.note(error.trail))
            tell(ticks)
        with pytest.raises(NotPortableError):
            failed.result(timeout=30)
        assert ticks() == 2
        [told] = ada.entries()
        assert told.startswith("root 1 -> bank.Bank#")


class TestOtherErrors:
    def test_an_error_of_a_portrait_function_has_the_way_in_a_note(self, place):
        """Whatever it raises, the error is the user's own."""

        @actor(portrait=lambda value: {"value": 10 / value})
        def fraction(bcom, value):
            return methods(put=lambda new: bcom(fraction(bcom, new)))

        env = PersistenceEnv("test", fraction, cell)
        vat, box = place.spawn(lambda: spawn(cell, spawn(fraction, 1)), env=env)
        with pytest.raises(ZeroDivisionError) as caught:
            vat.run(lambda: box.get().put(0))
        [note] = [note for note in caught.value.__notes__ if "portrait" in note]
        assert note.startswith("while the portrait of fraction#")
        assert note.endswith("which is reached by root 0 -> test.cell#1.value")

    def test_so_has_that_of_one_that_gives_no_portrait(self, place):
        @actor(portrait=lambda: 42)
        def odd(bcom):
            return lambda: None

        with pytest.raises(MigrationError) as caught:
            place.spawn(lambda: spawn(odd), env=PersistenceEnv("test", odd))
        assert any("reached by root 0" in note for note in caught.value.__notes__)


def test_a_coroutine_that_nobody_has_awaited_comes_with_that_advice(place):
    async def work():
        """Runs for nobody."""

    coroutine = work()
    _, box = place.spawn(lambda: spawn(Box), env=BOX_ENV)
    with pytest.raises(NotPortableError, match=r"coroutine.* nobody has awaited; await it") as caught:
        box.put([coroutine])
    assert (caught.value.path, caught.value.what) == ("value[0]", "coroutine")
    coroutine.close()
