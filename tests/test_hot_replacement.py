"""A running vat gets new code behind the same Refs: all of it or none, saved, and used from then on (HOT-01
to HOT-13)."""

import gc
import importlib
import struct
import sys
import textwrap
import types
from dataclasses import dataclass

import goblins
import pytest
from goblins import (
    Actor,
    BehaviorError,
    DeadlockError,
    ManualVat,
    Map,
    MigrationError,
    Migrations,
    NoSuchActorError,
    NotPortableError,
    PersistenceEnv,
    PersistenceError,
    RocksStore,
    UnknownLabelError,
    Vat,
    actor,
    methods,
    portraitize,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
)
from support import Boom, cell, counter


def greeter_of(text, **options):
    """A constructor of the label "greeter", as another version of its source would make it."""

    @actor(label="greeter", **options)
    def greeter(bcom, name, greeted=0):
        def greet():
            return bcom(greeter(bcom, name, greeted + 1), f"{text} {name} {greeted}")

        return greet

    return greeter


def account_of(bonus, **options):
    class Account(Actor, label="account", **options):
        owner: str
        balance: int = 0
        history: list = []

        def deposit(self, amount):
            self.balance += amount + bonus
            self.history.append(amount)
            return self.balance

    return Account


def cell_of_another_kind():
    @actor(label="cell")
    def other(bcom, value=None):
        return methods(get=lambda: value, put=lambda new: bcom(other(bcom, new)))

    return other


HELLO, GOODBYE = greeter_of("hello"), greeter_of("goodbye")
PLAIN, GENEROUS = account_of(0), account_of(100)


def env_of(*constructors, **options):
    return PersistenceEnv("test", *constructors, **options)


OLD, NEW = env_of(HELLO, PLAIN, cell), env_of(GOODBYE, GENEROUS, cell)


def batches_of_the_log(folder):
    """How many batches the log of a store holds: one record each, in pieces if it is large."""
    (log,) = folder.rglob("*.log")
    data, at, batches = log.read_bytes(), 0, 0
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        if kind == 0:
            break
        # A whole record, or the last piece of one.
        batches += kind in (1, 4)
        at += 7 + length
    return batches


class TestActors:
    def test_get_new_code_behind_the_same_refs_and_keep_their_state(self, place):
        """HOT-01, HOT-02"""
        vat, greeter, account = place.spawn(lambda: (spawn(HELLO, "Ada"), spawn(PLAIN, "Ada", 5)), env=OLD)
        holder = vat.spawn(cell, greeter)
        assert (greeter(), account.deposit(1)) == ("hello Ada 0", 6)
        report = vat.replace_behavior(NEW)
        assert report.ok
        assert report.replaced == {"test.greeter": 1, "test.account": 1}
        assert (greeter(), account.deposit(1)) == ("goodbye Ada 1", 107)
        assert holder.get() is greeter
        with vat:
            assert holder.get()() == "goodbye Ada 2"

    def test_that_are_not_in_memory_come_up_with_the_new_code(self, place):
        vat, *_ = place.spawn(lambda: (spawn(HELLO, "Ada"), spawn(PLAIN, "Ada", 5)), env=OLD)
        vat, greeter, account = place.restart(vat, env=OLD)
        assert vat.replace_behavior(NEW).replaced == {}
        assert (greeter(), account.deposit(1)) == ("goodbye Ada 0", 106)

    def test_whose_constructor_is_the_same_are_left_alone(self, place):
        """HOT-03, HOT-12"""
        vat, greeter, box = place.spawn(lambda: (spawn(HELLO, "Ada"), spawn(cell, 1)), env=OLD)
        greeter(), box.get()
        report = vat.replace_behavior(env_of(HELLO, GENEROUS, cell))
        assert report.replaced == {}
        assert report.left == {"test.greeter": 1, "test.cell": 1}
        assert vat.replace_behavior(env_of(greeter_of("hello"), GENEROUS, cell)).replaced == {
            "test.greeter": 1
        }

    def test_that_are_not_stored_are_replaced_too(self, place):
        vat, _ = place.spawn(lambda: spawn(cell), env=OLD)
        loose = vat.spawn(HELLO, "Bob")
        open_ = vat.spawn(HELLO, object())
        report = vat.replace_behavior(NEW)
        assert loose() == "goodbye Bob 0"
        # One whose state can't be written down is left alone, and named: it need not be.
        assert open_().startswith("hello")
        assert [problem.label for problem in report.problems] == ["test.greeter"]
        assert "name" in report.problems[0].reason

    def test_are_upgraded_on_the_way(self, place):
        """HOT-04, HOT-13: they live on, and so they do after a restart."""
        steps = Migrations()

        @steps.to(1)
        def split(owner, balance, history):
            return {"owner": owner, "cents": balance * 100}

        class Account(Actor, label="account", version=1, upgrade=steps):
            owner: str
            cents: int

            def total(self):
                return self.cents

        new = env_of(Account, HELLO, cell)
        vat, used, unused = place.spawn(lambda: (spawn(PLAIN, "Ada", 5), spawn(PLAIN, "Bob", 7)), env=OLD)
        vat, used, unused = place.restart(vat, env=OLD)
        used.deposit(1)
        vat.replace_behavior(new)
        assert (used.total(), unused.total()) == (600, 700)
        _, used, unused = place.restart(vat, env=new)
        assert (used.total(), unused.total()) == (600, 700)

    def test_are_made_by_a_rehydrator_of_the_new_environment(self, place):
        """HOT-04: it gets version 0 for a portrait without one; HOT-06: the Ref of what it spawned is not the
        actor."""
        seen = []

        def restore(version, **fields):
            seen.append((version, fields))
            made = spawn(GOODBYE, fields["name"].upper(), fields["greeted"])
            seen.append(made)
            return made

        vat, greeter = place.spawn(lambda: spawn(HELLO, "Ada"), env=OLD)
        greeter()
        vat.replace_behavior(PersistenceEnv({"test.greeter": (GOODBYE, restore), "test.cell": cell}))
        assert seen[0] == (0, {"name": "Ada", "greeted": 1})
        assert greeter() == "goodbye ADA 1"
        assert seen[1] is not greeter
        with pytest.raises(LookupError):
            seen[1]()

    def test_may_have_got_another_label(self, place):
        only_new = PersistenceEnv({"new.account": GENEROUS}, extends=env_of(cell))
        moved = PersistenceEnv({}, aliases={"test.account": GENEROUS}, extends=only_new)
        vat, account = place.spawn(lambda: spawn(PLAIN, "Ada"), env=OLD)
        vat.replace_behavior(moved)
        assert account.deposit(1) == 101
        vat, account = place.restart(vat, env=only_new)
        assert account.deposit(1) == 202

    def test_call_each_other_in_new_constructors_and_no_change_is_lost(self, place):
        @actor(label="cell")
        def eager(bcom, value=None):
            if value is not None and value() > 100:
                raise AssertionError
            return methods(get=lambda: value, put=lambda new: bcom(eager(bcom, new)))

        @actor(label="counter")
        def fast(bcom, value=0):
            return lambda: bcom(fast(bcom, value + 10), value)

        def roots():
            ticks = spawn(counter, 1)
            return spawn(cell, ticks), ticks, spawn(cell, ticks)

        vat, *refs = place.spawn(roots)
        vat.replace_behavior(env_of(eager, fast))
        ticks = refs[1]
        # Two constructors called it, with the new code.
        assert ticks() == 21
        _, _, ticks, _ = place.restart(vat, env=env_of(cell, counter))
        assert ticks() == 31

    def test_hold_records_of_the_new_class(self, place):
        old, new = money_class(), money_class()
        first = env_of(cell, records={"Money": old})
        roots = lambda: (spawn(cell, [old(5)]), spawn(cell, Map({1: old(7)})))  # noqa: E731
        vat, box, table = place.spawn(roots, env=first)
        assert vat.replace_behavior(env_of(cell, records={"Money": new})).ok
        assert type(box.get()[0]) is new
        with vat:
            assert type(table.get()[1]) is new
        box.put([new(6)])
        _, box, _ = place.restart(vat, env=env_of(cell, records={"Money": new}))
        assert box.get() == [new(6)]

    def test_keep_references_to_other_vats_and_promises_as_they_are(self, place):
        """What waits to be settled, and who is far, is not what a restart would make of it."""

        @actor(label="cell")
        def newer(bcom, value=None):
            return methods(get=lambda: value, put=lambda new: bcom(newer(bcom, new)))

        vat, box = place.spawn(lambda: spawn(cell), part="a")
        other, far = place.spawn(lambda: spawn(cell, "far"), part="b")
        waiting, resolver = promise_and_resolver()
        known, settle = promise_and_resolver()
        settle.fulfil(5)
        box.put([far, waiting, known, {"again": waiting}, box])
        vat.replace_behavior(env_of(newer, counter))
        now = box.get()
        assert now[0] is far
        assert now[1] is waiting
        assert now[3]["again"] is waiting
        assert now[4] is box
        assert now[2].result(30) == 5
        resolver.fulfil("settled later")
        assert now[1].result(30) == "settled later"
        vat.drain(30)
        other.close()
        _, box = place.restart(vat, env=env_of(newer, counter), part="a")
        assert box.get()[1].result(30) == "settled later"

    def test_with_portraits_by_hand_and_actors_of_the_library(self, place):
        def teller_of(text):
            def teller(bcom, number=0):
                def tell():
                    return bcom(teller(bcom, number + 1), f"{text} {number}")

                return portraitize(tell, lambda: {"number": number})

            return teller

        old, new = teller_of("old"), teller_of("new")
        roots = lambda: (spawn(old), spawn(goblins.cell, 7))  # noqa: E731
        vat, teller, box = place.spawn(roots, env=PersistenceEnv({"teller": old}))
        assert teller() == "old 0"
        assert vat.replace_behavior(PersistenceEnv({"teller": new})).replaced == {"teller": 1}
        assert (teller(), box()) == ("new 1", 7)
        _, teller, box = place.restart(vat, env=PersistenceEnv({"teller": new}))
        assert (teller(), box()) == ("new 2", 7)


def money_class():
    @dataclass(frozen=True)
    class Money:
        cents: int

    return Money


class TestPortraits:
    def test_are_taken_in_a_turn_and_may_call_near_actors(self, place):
        """LIM-46, HOT-10"""

        def look(box, seen):
            box.put(box.get() + 1)
            return {"box": box, "seen": box.get()}

        @actor(portrait=look)
        def watcher(bcom, box, seen=0):
            return methods(seen=lambda: seen)

        @actor(label="watcher", portrait=look)
        def other(bcom, box, seen=0):
            return methods(seen=lambda: ("new", seen))

        env = env_of(watcher, cell)
        vat, made, box = place.spawn(lambda: (spawn(watcher, box := spawn(cell, 1)), box), env=env)
        vat.replace_behavior(env_of(other, cell))
        assert made.seen() == ("new", 2)
        assert box.get() == 1, "what a portrait changes is not kept"

    def test_that_fail_change_nothing(self, place):
        refused = []

        def refuse(value):
            if value in refused:
                raise Boom("no portrait today")
            return {"value": value}

        def shy_of(text):
            @actor(label="shy", portrait=refuse)
            def shy(bcom, value):
                return methods(put=lambda new: bcom(shy(bcom, new)), get=lambda: (text, value))

            return shy

        old, new = shy_of("old"), shy_of("new")
        vat, one, two = place.spawn(lambda: (spawn(old, 1), spawn(old, 2)), env=env_of(old))
        refused.append(2)
        with pytest.raises(Boom, match="no portrait today"):
            vat.replace_behavior(env_of(new))
        assert (one.get(), two.get()) == (("old", 1), ("old", 2))
        one.put(3)
        refused.clear()
        _, one, two = place.restart(vat, env=env_of(old))
        assert (one.get(), two.get()) == (("old", 3), ("old", 2))


class TestConstructors:
    def test_may_spawn_and_send(self, place):
        """HOT-05: what they spawn is kept and stored, and their messages arrive."""

        @actor(label="cell")
        def busy(bcom, value=None, helper=None):
            if helper is None:
                helper = spawn(counter, 7)
                send(helper)
            return methods(helper=lambda: helper, keep=lambda: bcom(busy(bcom, value, helper)))

        vat, box = place.spawn(lambda: spawn(cell, 3))
        vat.replace_behavior(env_of(busy, counter))
        helper = box.helper()
        assert helper() == 8
        box.keep()
        _, box = place.restart(vat, env=env_of(busy, counter))
        assert box.helper()() == 9


class TestSaving:
    def test_the_new_state_is_in_the_store_at_once(self, place):
        """LIM-16, HOT-09"""

        @actor(label="cell", version=1, upgrade=lambda version, fields: {"value": fields["value"] * 2})
        def doubled(bcom, value):
            return methods(get=lambda: value)

        @actor(label="cell", version=1)
        def later(bcom, value):
            return methods(get=lambda: value)

        vat, box = place.spawn(lambda: spawn(cell, 4))
        box.get()
        vat.replace_behavior(env_of(doubled, counter))
        # This one has no upgrade: what is stored has version 1 already.
        _, box = place.restart(vat, env=env_of(later, counter))
        assert box.get() == 8

    def test_actors_that_only_the_new_environment_has_can_be_stored(self, place):
        """LIM-16: without a restart."""
        vat, box = place.spawn(lambda: spawn(cell), env=env_of(cell))
        ticks = vat.spawn(counter, 3)
        with pytest.raises(NotPortableError):
            box.put(ticks)
        vat.replace_behavior(env_of(cell, counter))
        box.put(ticks)
        _, box = place.restart(vat, env=env_of(cell, counter))
        assert box.get()() == 3

    def test_it_is_one_batch(self, tmp_path):
        def add_a_thousand(version, fields):
            return {**fields, "balance": fields["balance"] + 1000}

        new = env_of(HELLO, account_of(0, version=1, upgrade=add_a_thousand), cell)
        with RocksStore(tmp_path / "s", sync=False) as store:
            roots = lambda: [spawn(PLAIN, "Ada") for _ in range(50)]  # noqa: E731
            vat, first, *_ = spawn_persistent_vat(OLD, roots, store)
            before = batches_of_the_log(tmp_path / "s")
            assert vat.replace_behavior(new).replaced == {"test.account": 50}
            assert batches_of_the_log(tmp_path / "s") == before + 1
            # So the count counts.
            for n in range(3):
                assert first.deposit(1) == 1001 + n
            assert batches_of_the_log(tmp_path / "s") == before + 4

    def test_the_log_can_look_back_at_the_old_code(self, place):
        vat, greeter = place.spawn(lambda: spawn(HELLO, "Ada"), env=OLD, log=True)
        greeter()
        before = vat.log[-1]
        vat.replace_behavior(NEW)
        assert greeter() == "goodbye Ada 1"
        assert before.peek(greeter) == "hello Ada 1"


class TestFailures:
    """HOT-07: they change nothing: neither behaviors, nor the environment, nor the store."""

    def fails(self, place, new, error, match=None):
        roots = lambda: (spawn(HELLO, "Ada"), spawn(PLAIN, "Ada", 5), spawn(cell))  # noqa: E731
        vat, greeter, account, box = place.spawn(roots, env=OLD)
        assert greeter() == "hello Ada 0"
        with pytest.raises(error, match=match) as caught:
            vat.replace_behavior(new)
        assert (greeter(), account.deposit(1)) == ("hello Ada 1", 6)
        box.put(vat.spawn(HELLO, "kept"))
        _, greeter, account, box = place.restart(vat, env=OLD)
        assert (greeter(), account.deposit(1), box.get()()) == ("hello Ada 2", 7, "hello kept 0")
        return caught.value

    def test_of_a_constructor(self, place):
        @actor(label="greeter")
        def broken(bcom, name, greeted=0):
            raise Boom("new code")

        error = self.fails(place, env_of(broken, GENEROUS, cell), Boom, "new code")
        (note, *_) = [note for note in error.__notes__ if "replaced" in note]
        assert "greeter#0 of vat main" in note

    def test_of_a_constructor_that_is_no_actor_any_more(self, place):
        self.fails(
            place,
            env_of(actor(label="greeter")(lambda bcom, name, greeted: 5), GENEROUS, cell),
            BehaviorError,
        )

    def test_of_what_can_not_be_stored_again(self, place):
        @actor(label="account")
        def odd(bcom, owner, balance, history):
            return odd2(bcom, lambda: 1)

        @actor
        def odd2(bcom, value):
            return value

        self.fails(place, env_of(HELLO, odd, odd2, cell), NotPortableError)

    def test_of_an_upgrade(self, place):
        def upgrade(version, fields):
            raise Boom("in the upgrade")

        self.fails(place, env_of(GOODBYE, account_of(1, version=1, upgrade=upgrade), cell), Boom)

    def test_a_version_without_an_upgrade_is_found_before_anything_changes(self, place):
        new = env_of(GOODBYE, account_of(1, version=1), cell)
        error = self.fails(place, new, MigrationError, "no upgrade")
        assert "test.account" in str(error)
        assert "slot 1" in str(error)

    def test_a_field_that_is_gone_is_found_before_anything_changes(self, place):
        class Account(Actor, label="account"):
            owner: str
            balance: int = 0

        error = self.fails(place, env_of(GOODBYE, Account, cell), MigrationError, "history")
        assert "upgrade=" in str(error)

    def test_a_ghost_that_could_not_be_made_is_found_too(self, place):
        vat, *_ = place.spawn(lambda: spawn(PLAIN, "Ada"), env=OLD)
        vat, account = place.restart(vat, env=OLD)
        with pytest.raises(MigrationError, match="no upgrade"):
            vat.replace_behavior(env_of(HELLO, account_of(1, version=1), cell))
        assert account.deposit(1) == 1

    def test_a_record_that_is_missing(self, place):
        money = money_class()
        first = env_of(cell, records={"Money": money})
        vat, box = place.spawn(lambda: spawn(cell, money(5)), env=first)
        with pytest.raises(UnknownLabelError, match="Money"):
            vat.replace_behavior(env_of(cell))
        assert box.get() == money(5)

    def test_an_interrupt(self, place):
        @actor(label="greeter")
        def slow(bcom, name, greeted=0):
            raise KeyboardInterrupt

        self.fails(place, env_of(slow, GENEROUS, cell), KeyboardInterrupt)


class TestUnknownLabels:
    def test_their_actors_go_on_as_they_are_and_are_counted(self, place):
        """HOT-03"""
        roots = lambda: (spawn(HELLO, "Ada"), spawn(PLAIN, "Ada"), spawn(PLAIN, "Bob"))  # noqa: E731
        vat, *_ = place.spawn(roots, env=OLD)
        vat, greeter, account, ghost = place.restart(vat, env=OLD)
        assert account.deposit(1) == 1
        report = vat.replace_behavior(env_of(GOODBYE, cell))
        assert report.unknown == {"test.account": 2}
        assert (greeter(), account.deposit(1), ghost.deposit(1)) == ("goodbye Ada 0", 2, 1)
        assert "test.account" in str(report)
        _, _, account, ghost = place.restart(vat, env=OLD)
        assert (account.deposit(1), ghost.deposit(1)) == (3, 2)

    @pytest.mark.parametrize("persist_on", ["churn", "manual"])
    def test_each_actor_is_counted_in_one_place(self, place, persist_on):
        roots = lambda: (spawn(HELLO, "Ada"), spawn(PLAIN, "Ada"), spawn(cell, []))  # noqa: E731
        vat, _, account, box = place.spawn(roots, env=OLD, persist_on=persist_on)
        # This one is stored, or will be, and that one won't.
        late, loose = vat.spawn(PLAIN, "Bob"), vat.spawn(PLAIN, "Eve")
        box.put([late])
        report = vat.replace_behavior(env_of(GOODBYE, cell))
        assert report.unknown == {"test.account": 2}
        assert report.left == {"test.account": 1, "test.cell": 1}
        assert report.replaced == {"test.greeter": 1}
        assert "1 actor replaced, 2 left alone, 2 actors with unknown labels" in repr(report)
        assert [one.deposit(1) for one in (account, late, loose)] == [1, 1, 1]
        if persist_on == "manual":
            vat.save()
        _, _, account, box = place.restart(vat, env=OLD)
        assert [one.deposit(1) for one in (account, *box.get())] == [2, 2]

    def test_an_actor_that_is_stored_under_a_label_of_old_is_counted_once(self, place):
        """Until it changes. The environment that has both labels is followed by one that has the new one."""
        vat, account, other = place.spawn(lambda: (spawn(PLAIN, "Ada"), spawn(PLAIN, "Bob")), env=OLD)
        moved = PersistenceEnv({"new.account": PLAIN}, aliases={"test.account": PLAIN}, extends=env_of(cell))
        assert vat.replace_behavior(moved).left == {"test.account": 2}
        other.deposit(1)
        with_new_code = PersistenceEnv({"new.account": GENEROUS}, extends=env_of(cell))
        trial = vat.replace_behavior(with_new_code, dry_run=True)
        assert (trial.replaced, trial.unknown) == ({"new.account": 2}, {})
        report = vat.replace_behavior(PersistenceEnv({"new.account": PLAIN}, extends=env_of(cell)))
        assert (report.left, report.unknown) == ({"new.account": 1}, {"test.account": 1})
        assert (account.deposit(1), other.deposit(1)) == (1, 2)

    def test_one_that_sleeps_under_a_label_of_old_does_not_keep_others_from_new_code(self, place):
        vat, *_ = place.spawn(lambda: (spawn(PLAIN, "Ada"), spawn(PLAIN, "Bob")), env=OLD)
        both = PersistenceEnv({"new.account": PLAIN}, aliases={"test.account": PLAIN}, extends=env_of(cell))
        vat, used, unused = place.restart(vat, env=both)
        used.deposit(1)
        new = PersistenceEnv({"new.account": GENEROUS}, extends=env_of(cell))
        report = vat.replace_behavior(new)
        assert (report.replaced, report.left) == ({"new.account": 1}, {})
        assert report.unknown == {"test.account": 1}
        assert (used.deposit(1), unused.deposit(1)) == (102, 1)
        loose = vat.spawn(GENEROUS, "Eve")
        assert loose.deposit(1) == 101
        vat, used, unused = place.restart(vat, env=PersistenceEnv({"test.account": PLAIN}, extends=new))
        assert (used.deposit(1), unused.deposit(1)) == (203, 2)

    def test_an_actor_that_was_not_saved_keeps_its_code_too(self, place):
        vat, box = place.spawn(lambda: spawn(cell, []), env=OLD, persist_on="manual")
        with vat:
            box.put([spawn(PLAIN, "Ada")])
        assert vat.replace_behavior(env_of(GOODBYE, cell)).unknown == {"test.account": 1}
        assert box.get()[0].deposit(1) == 1
        vat.save()
        _, box = place.restart(vat, env=OLD)
        assert box.get()[0].deposit(1) == 2


class TestOnly:
    @pytest.mark.parametrize(
        "only", ["test.account", GENEROUS, PLAIN, [GENEROUS], ("test.account",)], ids=str
    )
    def test_labels_or_constructors_may_be_chosen(self, place, only):
        vat, greeter, account = place.spawn(lambda: (spawn(HELLO, "Ada"), spawn(PLAIN, "Ada")), env=OLD)
        report = vat.replace_behavior(NEW, only=only)
        assert report.replaced == {"test.account": 1}
        assert report.left == {"test.greeter": 1}
        assert (greeter(), account.deposit(1)) == ("hello Ada 0", 101)
        assert vat.replace_behavior(NEW).replaced == {"test.greeter": 1}

    def test_a_label_that_nobody_knows_is_an_error(self, place):
        vat, greeter = place.spawn(lambda: spawn(HELLO, "Ada"), env=OLD)
        with pytest.raises(UnknownLabelError, match=r"test\.gretter"):
            vat.replace_behavior(NEW, only="test.gretter")
        assert greeter() == "hello Ada 0"


class TestDryRun:
    def test_reports_and_takes_all_back(self, place):
        vat, greeter, account = place.spawn(lambda: (spawn(HELLO, "Ada"), spawn(PLAIN, "Ada")), env=OLD)
        report = vat.replace_behavior(NEW, dry_run=True)
        assert report.ok
        assert report.dry_run
        assert report.replaced == {"test.greeter": 1, "test.account": 1}
        assert (greeter(), account.deposit(1)) == ("hello Ada 0", 1)
        _, greeter, account = place.restart(vat, env=OLD)
        assert (greeter(), account.deposit(1)) == ("hello Ada 1", 2)

    def test_names_all_problems(self, place):
        @actor(label="greeter")
        def broken(bcom, name, greeted=0):
            raise Boom(name)

        @actor(label="cell")
        def odd(bcom, value):
            return odd2(bcom, lambda: 1)

        @actor
        def odd2(bcom, value):
            return value

        roots = lambda: (spawn(HELLO, "Ada"), spawn(HELLO, "Bob"), spawn(cell), spawn(PLAIN, "Ada"))  # noqa: E731
        vat, greeter, *_ = place.spawn(roots, env=OLD)
        new = env_of(broken, odd, odd2, account_of(1, version=3))
        report = vat.replace_behavior(new, dry_run=True)
        assert not report.ok
        found = {(problem.label, problem.slot) for problem in report.problems}
        assert found >= {("test.greeter", 0), ("test.greeter", 1), ("test.cell", 2), ("test.account", 3)}
        assert "Boom: Bob" in str(report)
        assert "version 3" in str(report)
        assert greeter() == "hello Ada 0"

    def test_whoever_was_awake_is_awake_and_whoever_slept_sleeps(self, place):
        vat, *_ = place.spawn(lambda: (spawn(HELLO, "Ada"), spawn(PLAIN, "Ada")), env=OLD)
        vat, greeter, account = place.restart(vat, env=OLD)
        assert greeter() == "hello Ada 0"
        assert vat.awake == 1
        assert vat.replace_behavior(NEW, dry_run=True).replaced == {"test.greeter": 1}
        assert vat.awake == 1
        account.deposit(1)
        assert vat.awake == 2

    def test_sends_nothing_and_spawns_nothing(self, place):
        told, made = [], []

        @actor(label="cell")
        def loud(bcom, value):
            made.append(spawn(lambda bcom: told.append))
            send(made[-1], "made")
            return methods(get=lambda: value)

        vat, box = place.spawn(lambda: spawn(cell, 1))
        awake = vat.awake
        assert vat.replace_behavior(env_of(loud, counter), dry_run=True).replaced == {"test.cell": 1}
        vat.drain(30)
        assert len(made) == 1, "the constructor did not run"
        assert told == []
        with pytest.raises(NoSuchActorError):
            vat.run(made[0], "again")
        assert vat.awake == awake
        box.put(2)
        assert box.get() == 2


class TestWithoutAnEnvironment:
    """The constructors are looked up again in their modules."""

    @pytest.fixture
    def module(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        file = tmp_path / "hot_module.py"
        module = Source(file)
        module.write("hello")
        module.load()
        yield module
        sys.modules.pop("hot_module", None)

    def test_after_a_reload(self, place, module):
        vat, greeter, account = place.spawn(module.roots, env=module.env())
        assert (greeter.greet(), account.owed()) == ("hello Ada", ("hello", "cents"))
        module.write("goodbye")
        importlib.reload(module.module)
        report = vat.replace_behavior()
        assert report.replaced == {"hot.greeter": 1, "hot.Account": 1}
        assert (greeter.greet(), account.owed()) == ("goodbye Ada", ("goodbye", "cents"))
        assert vat.replace_behavior().replaced == {}
        _, greeter, account = place.restart(vat, env=module.env())
        assert greeter.greet() == "goodbye Ada"

    def test_records_and_rehydrators_are_looked_up_too(self, place, module):
        def env():
            made = module.module
            return PersistenceEnv(
                {"hot.greeter": (made.greeter, made.restore), "cell": cell}, records={"Money": made.Money}
            )

        vat, box = place.spawn(lambda: spawn(cell, module.module.Money(5)), env=env())
        module.write("goodbye")
        importlib.reload(module.module)
        assert vat.replace_behavior().replaced == {"cell": 1}
        assert type(box.get()) is module.module.Money

    def test_after_a_cell_of_a_notebook_ran_again(self, place, monkeypatch):
        """A notebook's module is ``__main__``, and its names are simply given anew."""
        main = types.ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", main)
        run_cell(main, "hello")
        env = PersistenceEnv("notebook", main.greeter, main.Account)
        vat, greeter, account = place.spawn(
            lambda: (spawn(main.greeter, "Ada"), spawn(main.Account, "Ada")), env=env
        )
        assert greeter.greet() == "hello Ada"
        run_cell(main, "goodbye")
        assert vat.replace_behavior().replaced == {"notebook.greeter": 1, "notebook.Account": 1}
        assert (greeter.greet(), account.owed()) == ("goodbye Ada", ("goodbye", "cents"))

    def test_what_is_not_found_again_stays_as_it_is_and_is_named(self, place):
        vat, greeter = place.spawn(lambda: spawn(HELLO, "Ada"), env=OLD)
        report = vat.replace_behavior()
        assert report.missing == ["test.greeter", "test.account"]
        assert "test.greeter" in str(report)
        assert greeter() == "hello Ada 0"

    def test_bad_migrations_of_the_new_code_are_refused(self, place, module):
        vat, greeter, _ = place.spawn(module.roots, env=module.env())
        module.write("goodbye", "version=3, upgrade=steps")
        importlib.reload(module.module)
        with pytest.raises(MigrationError, match="no step"):
            vat.replace_behavior()
        assert greeter.greet() == "hello Ada"


SOURCE = """
from dataclasses import dataclass

from goblins import Actor, Migrations, actor, methods, spawn

steps = Migrations()

@actor({options})
def greeter(bcom, name):
    return methods(greet=lambda: "{text} " + name)

def restore(version, name):
    return spawn(greeter, name)

class Account(Actor):
    owner: str

    def owed(self):
        return "{text}", "cents"

@dataclass
class Money:
    cents: int
"""


def source_of(text, options=""):
    return textwrap.dedent(SOURCE.replace("{text}", text).replace("{options}", options))


def run_cell(module, text):
    exec(compile(source_of(text), "<cell>", "exec"), module.__dict__)


class Source:
    """A module in a file."""

    def __init__(self, file):
        self.file = file

    def write(self, text, options=""):
        self.file.write_text(source_of(text, options), encoding="utf-8")
        importlib.invalidate_caches()

    def load(self):
        self.module = importlib.import_module(self.file.stem)

    def env(self):
        return PersistenceEnv("hot", self.module.greeter, self.module.Account)

    def roots(self):
        return spawn(self.module.greeter, "Ada"), spawn(self.module.Account, "Ada")


class TestCodeThatWaits:
    """It goes on with the old code, and never loses a change in silence."""

    def test_finishes_with_the_old_code(self, place):
        def asker_of(text):
            @actor(label="asker")
            def asker(bcom):
                async def ask(promise):
                    return f"{text} {await promise}"

                return methods(ask=ask)

            return asker

        old, new = asker_of("old"), asker_of("new")
        vat, asker = place.spawn(lambda: spawn(old), env=env_of(old))
        promise, resolver = promise_and_resolver()
        first = send(asker.ask, promise)
        vat.drain(30)
        vat.replace_behavior(env_of(new))
        second = send(asker.ask, promise)
        resolver.fulfil("answer")
        assert (first.result(30), second.result(30)) == ("old answer", "new answer")

    def test_that_becomes_something_in_the_end_fails(self, place):
        def cell_of(text):
            @actor(label="cell")
            def waiting(bcom, value=None):
                async def put(promise):
                    return bcom(waiting(bcom, await promise))

                return methods(put=put, get=lambda: value)

            return waiting

        old, new = cell_of("old"), cell_of("new")
        vat, box = place.spawn(lambda: spawn(old, 1), env=env_of(old))
        promise, resolver = promise_and_resolver()
        putting = send(box.put, promise)
        vat.drain(30)
        vat.replace_behavior(env_of(new))
        resolver.fulfil(2)
        with pytest.raises(
            BehaviorError, match=r"the code of actor 0 .* was replaced while this call waited"
        ):
            putting.result(30)
        assert box.get() == 1

    @pytest.mark.parametrize("why", ["it changed", "it was tried out", "others were replaced"])
    def test_that_comes_too_late_for_another_reason_is_told_that_one(self, place, why):
        @actor(label="cell")
        def waiting(bcom, value=None):
            async def later(promise):
                return bcom(waiting(bcom, await promise))

            return methods(later=later, put=lambda new: bcom(waiting(bcom, new)), get=lambda: value)

        new = {
            "it changed": None,
            "it was tried out": env_of(GOODBYE, cell_of_another_kind(), GENEROUS),
            "others were replaced": env_of(GOODBYE, waiting, GENEROUS),
        }[why]
        vat, box, greeter = place.spawn(
            lambda: (spawn(waiting, 1), spawn(HELLO, "Ada")), env=env_of(waiting, HELLO, PLAIN)
        )
        greeter()
        promise, resolver = promise_and_resolver()
        putting = send(box.later, promise)
        vat.drain(30)
        if new is not None:
            assert vat.replace_behavior(new, dry_run=why == "it was tried out").replaced
        box.put(2)
        resolver.fulfil(3)
        with pytest.raises(BehaviorError, match="a stale bcom"):
            putting.result(30)
        assert box.get() == 2

    def class_of(self, change):
        class Box(Actor, label="box"):
            value: int = 1
            items: list = []

            async def wait(self, promise):
                got = await promise
                if change:
                    self.value = got
                    self.items.append(got)
                return self.value, list(self.items)

            def put(self, value):
                self.value = value
                self.items.append(value)

            def get(self):
                return self.value, list(self.items)

        return Box

    def waiting(self, place, change):
        old, new = self.class_of(change), self.class_of(change)
        vat, box = place.spawn(lambda: spawn(old), env=env_of(old))
        promise, resolver = promise_and_resolver()
        answer = send(box.wait, promise)
        vat.drain(30)
        vat.replace_behavior(env_of(new))
        box.put(5)
        resolver.fulfil(9)
        return vat, box, answer, env_of(new)

    def test_sees_the_state_as_it_was_when_the_actor_was_replaced(self, place):
        _, box, answer, _ = self.waiting(place, change=False)
        assert answer.result(30) == (1, [])
        assert box.get() == (5, [5])

    def test_that_changes_a_field_fails(self, place):
        vat, box, answer, env = self.waiting(place, change=True)
        with pytest.raises(BehaviorError, match="would be lost"):
            answer.result(30)
        assert box.get() == (5, [5])
        _, box = place.restart(vat, env=env)
        assert box.get() == (5, [5])

    def test_goes_on_as_before_if_its_actor_was_not_replaced(self, place):
        box = self.class_of(True)
        vat, made = place.spawn(lambda: spawn(box), env=env_of(box))
        promise, resolver = promise_and_resolver()
        answer = send(made.wait, promise)
        vat.drain(30)
        vat.replace_behavior(env_of(box))
        resolver.fulfil(9)
        assert answer.result(30) == (9, [9])


class TestVatsWithoutAStore:
    """HOT-08: ours can do it too, for constructors that can be found again."""

    @pytest.fixture
    def module(self, tmp_path, monkeypatch):
        main = types.ModuleType("hot_in_memory")
        monkeypatch.setitem(sys.modules, "hot_in_memory", main)
        run_cell(main, "hello")
        return main

    def test_actors_get_the_code_that_their_modules_have_now(self, vat, module):
        greeter, account = vat.spawn(module.greeter, "Ada"), vat.spawn(module.Account, "Ada")
        run_cell(module, "goodbye")
        report = vat.replace_behavior()
        assert report.replaced == {"hot_in_memory.greeter": 1, "hot_in_memory.Account": 1}
        assert (greeter.greet(), account.owed()) == ("goodbye Ada", ("goodbye", "cents"))

    def test_a_dry_run_leaves_them_as_they_are(self, vat, module):
        greeter = vat.spawn(module.greeter, "Ada")
        run_cell(module, "goodbye")
        assert vat.replace_behavior(dry_run=True).replaced == {"hot_in_memory.greeter": 1}
        assert greeter.greet() == "hello Ada"

    def test_actors_of_other_vats_are_left_alone(self, vat, other_vat, module):
        greeter = other_vat.spawn(module.greeter, "Ada")
        run_cell(module, "goodbye")
        assert vat.replace_behavior().replaced == {}
        assert greeter.greet() == "hello Ada"

    def test_an_environment_is_an_error(self, vat):
        with pytest.raises(PersistenceError, match="has no store"):
            vat.replace_behavior(NEW)


class TestWhen:
    def test_it_can_not_be_called_in_a_turn(self, place):
        """HOT-08: between churns"""
        vat, _ = place.spawn(lambda: spawn(cell))
        with pytest.raises(DeadlockError), vat:
            vat.replace_behavior()

    def test_messages_that_came_before_are_handled_by_the_old_code(self, place):
        vat, greeter = place.spawn(lambda: spawn(HELLO, "Ada"), env=OLD)
        first = send(greeter)
        vat.replace_behavior(NEW)
        second = send(greeter)
        assert (first.result(30), second.result(30)) == ("hello Ada 0", "goodbye Ada 1")

    def test_it_works_in_a_manual_vat(self, place):
        vat, greeter = place.spawn(lambda: spawn(HELLO, "Ada"), env=OLD, vat_constructor=ManualVat)
        vat.replace_behavior(NEW)
        assert greeter() == "goodbye Ada 0"

    async def test_it_works_in_a_vat_of_an_event_loop(self, place):
        from goblins import AsyncioVat

        vat, greeter = place.spawn(lambda: spawn(HELLO, "Ada"), env=OLD, vat_constructor=AsyncioVat)
        vat.replace_behavior(NEW, dry_run=True)
        vat.replace_behavior(NEW)
        assert await send(greeter) == "goodbye Ada 0"
        vat.close()

    def test_a_closed_vat_is_an_error(self, place):
        vat, _ = place.spawn(lambda: spawn(cell))
        vat.close()
        with pytest.raises(Exception, match="closed"):
            vat.replace_behavior()

    def test_what_is_no_environment_is_an_error(self, place):
        vat, _ = place.spawn(lambda: spawn(cell))
        with pytest.raises(TypeError, match="PersistenceEnv"):
            vat.replace_behavior({"test.cell": cell})


class TestReports:
    def test_are_readable(self, place):
        vat, *refs = place.spawn(lambda: (spawn(HELLO, "Ada"), spawn(PLAIN, "Ada"), spawn(cell)), env=OLD)
        report = vat.replace_behavior(NEW)
        assert repr(report) == "<Replacement: 2 actors replaced, 1 left alone>"
        lines = str(report).splitlines()
        assert lines[1].split() == ["label", "replaced", "left", "alone", "unknown"]
        assert [line.split() for line in lines[2:]] == [
            ["test.account", "1", "0", "0"],
            ["test.cell", "0", "1", "0"],
            ["test.greeter", "1", "0", "0"],
        ]
        assert report.seconds > 0

    def test_of_a_dry_run_say_so(self):
        vat = Vat()
        assert "would be replaced" in repr(vat.replace_behavior(dry_run=True))
        vat.close()


SHAPES_MODULE = """
from dataclasses import dataclass
from typing import Any

from goblins import Actor

@dataclass
class Point:
    x: int = 0
    y: int = {number}

class Keeper(Actor):
    held: Any = None

    def put(self, held):
        self.held = held

    def get(self):
        return self.held

    def code(self):
        return {number}
"""


class TestReloadedRecords:
    """Where a module is loaded again, the records in the state become instances of the new class."""

    @pytest.fixture
    def shapes(self, monkeypatch):
        module = types.ModuleType("shapes_of_this_test")
        monkeypatch.setitem(sys.modules, module.__name__, module)

        def load(number):
            exec(SHAPES_MODULE.format(number=number), module.__dict__)
            return module

        load(1)
        return load

    @pytest.fixture
    def kept(self, shapes):
        """A vat with an actor that holds what a function gives."""

        def keep(make, **options):
            module = shapes(1)
            env = PersistenceEnv("test", module.Keeper, records=[module.Point])
            vat, keeper = spawn_persistent_vat(
                env, lambda: spawn(module.Keeper), goblins.MemoryStore(), **options
            )
            vat.run(lambda: keeper.put(make(module)))
            return vat, keeper, shapes(2)

        return keep

    @staticmethod
    def settled(value):
        promise, resolver = promise_and_resolver()
        resolver.fulfil(value)
        return promise

    @pytest.mark.parametrize(
        "wrap", [lambda point: point, lambda point: {"a": [point]}, lambda point: (point, None)]
    )
    def test_those_in_settled_promises_too(self, kept, wrap):
        vat, keeper, module = kept(lambda old: self.settled(wrap(old.Point(5))))
        assert vat.replace_behavior().replaced == {"test.Keeper": 1}
        assert keeper.code() == 2
        assert keeper.get().result(5) == wrap(module.Point(5, 1))
        assert vat.replace_behavior(dry_run=True).problems == []

    def test_those_in_promises_of_promises_too(self, kept):
        vat, keeper, module = kept(lambda old: [self.settled([self.settled(old.Point(5))]), old.Point(6)])
        vat.replace_behavior()
        outer, direct = keeper.get()
        assert (outer.result(5)[0].result(5), direct) == (module.Point(5, 1), module.Point(6, 1))

    def test_those_in_promises_that_settled_after_they_were_stored(self, kept):
        points = []
        promise, resolver = promise_and_resolver()

        def make(old):
            points.append(old.Point(5))
            return promise

        vat, keeper, module = kept(make)
        resolver.fulfil(points[0])
        vat.drain()
        vat.replace_behavior()
        assert keeper.get().result(5) == module.Point(5, 1)

    def test_one_promise_stays_one(self, kept):
        def make(old):
            promise = self.settled(old.Point(5))
            return [promise, promise]

        vat, keeper, _ = kept(make)
        vat.replace_behavior()
        first, second = keeper.get()
        assert first is second

    def test_promises_without_records_are_handed_over_as_they_are(self, kept):
        promises = []

        def make(old):
            promises.extend([self.settled(7), promise_and_resolver()[0]])
            return [*promises, self.settled(old.Point(5))]

        vat, keeper, _ = kept(make)
        vat.replace_behavior()
        assert [one is other for one, other in zip(promises, keeper.get(), strict=False)] == [True, True]


class TestFrozenObjects:
    def test_actors_that_the_collector_was_told_to_leave_alone_are_replaced_too(self, monkeypatch):
        module = types.ModuleType("frozen_of_this_test")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(SHAPES_MODULE.format(number=1), module.__dict__)
        vat = Vat()
        keeper = vat.spawn(module.Keeper)
        gc.freeze()
        try:
            exec(SHAPES_MODULE.format(number=2), module.__dict__)
            report = vat.replace_behavior()
        finally:
            gc.unfreeze()
        assert report.replaced == {"frozen_of_this_test.Keeper": 1}
        assert keeper.code() == 2
