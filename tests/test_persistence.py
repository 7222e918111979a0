"""Persistent vats: what is stored, when, and how it comes back.

The constructor of the roots runs once in a store's life. Afterwards each opening goes on where the last
one stopped: identity, cycles and sharing are kept, an actor is made again when it is first used, and a
turn that failed has left nothing.
"""

import threading

import pytest
from goblins import (
    BehaviorError,
    DuplicateLabelError,
    GoblinsError,
    ManualVat,
    MemoryStore,
    MigrationError,
    NotPortableError,
    PersistenceEnv,
    PersistenceError,
    RocksStore,
    StoreError,
    StoreLockedError,
    Vat,
    VatClosedError,
    actor,
    methods,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_named,
    spawn_persistent_vat,
    tell,
)
from support import ENV, Boom, caller, cell, collect, counter, failing_turn, must_not_run

made = []


@actor
def noted(bcom, name, *links):
    """Notes each time that it is made."""
    made.append(name)
    return methods(name=lambda: name, links=lambda: links)


@actor
def holder(bcom, value, *rest, key=None, **more):
    def replace(*args, **kwargs):
        return bcom(holder(bcom, *args, **kwargs))

    return methods(all=lambda: (value, rest, key, more), replace=replace)


BIG_ENV = PersistenceEnv("test", counter, cell, noted, holder)


class TestTheRoots:
    def test_the_first_opening_makes_them_and_later_ones_do_not(self, place):
        """PV-01, PV-02"""
        runs = []

        def roots():
            runs.append(1)
            return spawn(counter)

        vat, ticks = place.spawn(roots)
        assert [ticks(), ticks()] == [0, 1]
        for n in range(2, 5):
            vat.close()
            place.reopen()
            vat, ticks = place.spawn(roots)
            assert ticks() == n
        assert runs == [1]

    def test_they_are_stored_before_the_first_opening_returns(self, place):
        """PV-03"""
        vat, _ = place.spawn(lambda: spawn(counter, 7))
        _, ticks = place.restart(vat)
        assert ticks() == 7

    def test_they_come_back_in_the_order_given(self, place):
        """POR-35"""
        vat, *_ = place.spawn(lambda: tuple(spawn(cell, n) for n in range(20)))
        _, *roots = place.restart(vat)
        assert [root.get() for root in roots] == list(range(20))

    def test_the_answer_is_the_vat_and_then_each_root(self, place):
        """PV-01"""
        answer = place.spawn(lambda: (spawn(counter), spawn(cell)))
        assert len(answer) == 3
        assert isinstance(answer[0], Vat)
        assert answer[1]() == 0
        assert answer[2].get() is None

    def test_a_list_of_roots_is_as_good_as_a_tuple(self, place):
        vat, *roots = place.spawn(lambda: [spawn(cell, 1), spawn(cell, 2)])
        assert [root.get() for root in roots] == [1, 2]
        _, *roots = place.restart(vat)
        assert [root.get() for root in roots] == [1, 2]

    def test_one_actor_given_twice_is_one_actor(self, place):
        def roots():
            ref = spawn(counter)
            return ref, ref

        vat, one, two = place.spawn(roots)
        assert one is two
        _, one, two = place.restart(vat)
        assert one is two

    @pytest.mark.parametrize("roots", [None, 42, (), [], (1, 2), "text"], ids=repr)
    def test_roots_that_are_no_actors_are_an_error_and_the_store_stays_empty(self, place, roots):
        """POR-07"""
        with pytest.raises((TypeError, ValueError)):
            place.spawn(lambda: roots)
        vat, ticks = place.spawn(lambda: spawn(counter))
        assert ticks() == 0
        vat.close()

    def test_a_promise_as_root_is_an_error(self, place):
        """POR-07"""
        with pytest.raises(TypeError):
            place.spawn(lambda: promise_and_resolver()[0])

    def test_an_actor_of_another_vat_as_root_is_an_error(self, place, vat):
        far = vat.spawn(counter)
        with pytest.raises((TypeError, GoblinsError)):
            place.spawn(lambda: far)
        _, ticks = place.spawn(lambda: spawn(counter))
        assert ticks() == 0

    def test_an_error_in_their_constructor_reaches_the_caller_and_the_store_stays_empty(self, place):
        def roots():
            spawn(counter)
            raise Boom("no roots")

        with pytest.raises(Boom, match="no roots"):
            place.spawn(roots)
        _, ticks = place.spawn(lambda: spawn(counter, 3))
        assert ticks() == 3

    def test_their_constructor_runs_in_a_turn_whose_messages_are_handled(self, place):
        def roots():
            box = spawn(cell, 1)
            tell(box.put, 2)
            return box

        vat, box = place.spawn(roots)
        assert box.get() == 2
        _, box = place.restart(vat)
        assert box.get() == 2


class TestWhatIsKept:
    def test_every_change_is_there_after_the_next_opening(self, place):
        """PV-13"""
        vat, ticks, box = place.spawn(lambda: (spawn(counter), spawn(cell)))
        for round_ in range(5):
            assert ticks() == round_
            box.put([round_])
            vat, ticks, box = place.restart(vat)
            assert box.get() == [round_]
        assert ticks() == 5

    def test_changes_by_calls_blocks_sends_and_tells_are_all_kept(self, place):
        vat, ticks = place.spawn(lambda: spawn(counter))
        ticks()
        with vat:
            ticks()
            ticks()
        vat.run(ticks)
        send(ticks).result(timeout=30)
        tell(ticks)
        vat.drain(timeout=30)
        _, ticks = place.restart(vat)
        assert ticks() == 6

    def test_closing_the_store_is_no_condition_for_keeping(self, rocks):
        """The vat is opened again from the open store."""
        vat, ticks = rocks.spawn(lambda: spawn(counter))
        ticks()
        vat.close()
        vat, ticks = rocks.spawn(must_not_run)
        assert ticks() == 1

    def test_references_are_kept(self, place):
        """POR-25"""
        vat, root = place.spawn(lambda: spawn(cell, spawn(cell, spawn(cell, "deep"))))
        _, root = place.restart(vat)
        assert root.get().get().get() == "deep"

    def test_sharing_and_identity_are_kept(self, place):
        """POR-25"""

        def roots():
            shared = spawn(counter)
            return spawn(cell, shared), spawn(cell, [shared, shared]), shared

        vat, *_ = place.spawn(roots)
        _, one, two, shared = place.restart(vat)
        assert one.get() is shared
        assert two.get()[0] is two.get()[1] is shared
        one.get()()
        assert shared() == 1

    def test_identity_is_kept_whichever_way_an_actor_is_reached_first(self, place):
        def roots():
            shared = spawn(counter)
            return spawn(cell, spawn(cell, shared)), spawn(cell, spawn(cell, shared))

        vat, *_ = place.spawn(roots)
        _, one, two = place.restart(vat)
        assert one.get().get() is two.get().get()

    def test_cycles_are_kept(self, place):
        def roots():
            ring = [spawn(cell) for _ in range(5)]
            for here, there in zip(ring, [*ring[1:], ring[0]], strict=True):
                here.put(there)
            lonely = spawn(cell)
            lonely.put(lonely)
            return ring[0], lonely

        vat, *_ = place.spawn(roots)
        _, start, lonely = place.restart(vat)
        here = start
        for _ in range(5):
            here = here.get()
        assert here is start
        assert lonely.get() is lonely

    def test_references_anywhere_in_a_value_are_kept(self, place):
        """POR-26, POR-34: keys, sets, tuples, and these in each other."""

        def roots():
            one, two = spawn(cell, 1), spawn(cell, 2)
            value = {
                one: "as a key",
                ("in a tuple", two): [one, (two, {one})],
                "sets": {one, two},
                "frozen": frozenset({(one, 1), (two, frozenset({one}))}),
                "empty": [(), {}, set(), frozenset()],
            }
            return one, two, spawn(cell, value)

        vat, *_ = place.spawn(roots)
        _, one, two, box = place.restart(vat)
        assert box.get() == {
            one: "as a key",
            ("in a tuple", two): [one, (two, {one})],
            "sets": {one, two},
            "frozen": frozenset({(one, 1), (two, frozenset({one}))}),
            "empty": [(), {}, set(), frozenset()],
        }
        assert (one.get(), two.get()) == (1, 2)

    def test_a_long_chain_of_actors_is_kept(self, place):
        """Neither storing nor coming back may go one level of stack deeper for each actor."""

        def roots():
            ref = spawn(cell, "end")
            for _ in range(20_000):
                ref = spawn(cell, ref)
            return ref

        vat, _ = place.spawn(roots)
        _, here = place.restart(vat)
        for _ in range(20_000):
            here = here.get()
        assert here.get() == "end"

    def test_all_kinds_of_parameters_are_kept(self, place):
        """POR-09, POR-11"""
        vat, ref = place.spawn(lambda: spawn(holder, 1, 2, 3, key=4, other=5), env=BIG_ENV)
        assert ref.all() == (1, (2, 3), 4, {"other": 5})
        vat, ref = place.restart(vat, env=BIG_ENV)
        assert ref.all() == (1, (2, 3), 4, {"other": 5})
        ref.replace(value="by name")
        vat, ref = place.restart(vat, env=BIG_ENV)
        assert ref.all() == ("by name", (), None, {})
        ref.replace(1, *range(50), **{f"k{n}": n for n in range(50)})
        vat, ref = place.restart(vat, env=BIG_ENV)
        assert ref.all() == (1, tuple(range(50)), None, {f"k{n}": n for n in range(50)})

    def test_what_is_kept_is_what_the_arguments_were_when_the_turn_ended(self, place):
        """POR-10"""
        vat, root = place.spawn(lambda: spawn(cell))
        with vat:
            things = [1]
            root.put(things)
            things.append(2)
        _, root = place.restart(vat)
        assert root.get() == [1, 2]

    def test_names_given_at_spawn_are_kept(self, place):
        """POR-03, PV-18"""
        vat, *_ = place.spawn(lambda: (spawn_named("the till", counter), spawn(counter)))
        vat, till, plain = place.restart(vat)
        assert "the till" in repr(till)
        till()
        _, till, plain = place.restart(vat)
        assert till() == 1
        assert "the till" in repr(till)
        assert "counter" in repr(plain)
        plain()
        assert "counter" in repr(plain)

    def test_an_actor_comes_back_as_what_it_became(self, place):
        """ACT-14, where ours differs: the constructor of the present behavior is what is stored."""

        @actor
        def egg(bcom, colour):
            return methods(hatch=lambda: bcom(bird(bcom, colour, 0)), kind=lambda: "egg")

        @actor
        def bird(bcom, colour, songs):
            return methods(
                sing=lambda: bcom(bird(bcom, colour, songs + 1)), kind=lambda: (f"{colour} bird", songs)
            )

        env = PersistenceEnv("zoo", egg, bird)
        vat, ref = place.spawn(lambda: spawn(egg, "blue"), env=env)
        ref.hatch()
        vat, ref = place.restart(vat, env=env)
        assert ref.kind() == ("blue bird", 0)
        ref.sing()
        _, ref = place.restart(vat, env=env)
        assert ref.kind() == ("blue bird", 1)

    def test_a_new_parameter_with_a_default_needs_nothing_more(self, place):
        @actor(label="shop")
        def old(bcom, name, stock=0):
            return methods(show=lambda: (name, stock))

        @actor(label="shop")
        def new(bcom, stock, *, currency="EUR", name):
            return methods(show=lambda: (name, stock, currency))

        vat, _ = place.spawn(lambda: spawn(old, "corner", 3), env=PersistenceEnv("town", old))
        _, ref = place.restart(vat, env=PersistenceEnv("town", new))
        assert ref.show() == ("corner", 3, "EUR")

    def test_a_default_that_was_not_overridden_stays_what_it_was(self, place):
        """What the actor was made with counts, not what a later version of the code would say."""

        @actor(label="shop")
        def old(bcom, rate=5):
            return lambda: rate

        @actor(label="shop")
        def new(bcom, rate=7):
            return lambda: rate

        vat, _ = place.spawn(lambda: spawn(old), env=PersistenceEnv("town", old))
        _, ref = place.restart(vat, env=PersistenceEnv("town", new))
        assert ref() == 5

    def test_actors_spawned_later_are_stored_when_a_root_reaches_them(self, place):
        """PV-14"""
        vat, root = place.spawn(lambda: spawn(cell))
        with vat:
            inner = spawn(cell, "inner")
            middle = spawn(cell, [inner])
        inner.put("changed before anybody knew it")
        root.put({"middle": middle})
        vat, root = place.restart(vat)
        middle = root.get()["middle"]
        assert middle.get()[0].get() == "changed before anybody knew it"
        with vat:
            middle.get()[0].put(spawn(counter, 9))
        _, root = place.restart(vat)
        assert root.get()["middle"].get()[0].get()() == 9

    def test_new_actors_after_an_opening_never_take_the_place_of_old_ones(self, place):
        """POR-30"""
        vat, root = place.spawn(lambda: spawn(cell, []))
        for round_ in range(5):
            with vat:
                root.put([*root.get(), spawn(cell, round_)])
            vat, root = place.restart(vat)
            assert [ref.get() for ref in root.get()] == list(range(round_ + 1))

    def test_fulfilled_messages_of_the_last_run_are_not_repeated(self, place):
        vat, ticks = place.spawn(lambda: spawn(counter))
        for _ in range(10):
            tell(ticks)
        vat.drain(timeout=30)
        _, ticks = place.restart(vat)
        assert ticks() == 10


class TestGhosts:
    """An actor is made when it is first used (guarantee G7)."""

    def test_opening_makes_no_actor(self, place):
        vat, *_ = place.spawn(lambda: tuple(spawn(noted, n) for n in range(3)), env=BIG_ENV)
        made.clear()
        _, *roots = place.restart(vat, env=BIG_ENV)
        assert made == []
        assert roots[1].name() == 1
        assert made == [1]
        assert roots[1].name() == 1
        assert made == [1]

    def test_using_an_actor_does_not_make_those_it_refers_to(self, place):
        def roots():
            return spawn(noted, "root", *(spawn(noted, f"child {n}") for n in range(100)))

        vat, _ = place.spawn(roots, env=BIG_ENV)
        made.clear()
        _, root = place.restart(vat, env=BIG_ENV)
        children = root.links()
        assert made == ["root"]
        assert len(children) == 100
        assert children[7].name() == "child 7"
        assert made == ["root", "child 7"]

    def test_a_ghost_can_be_sent_to_passed_on_and_stored_without_being_made(self, place):
        vat, *_ = place.spawn(lambda: (spawn(noted, "ghost"), spawn(cell)), env=BIG_ENV)
        made.clear()
        vat, ghost, box = place.restart(vat, env=BIG_ENV)
        box.put([ghost])
        assert "noted" in repr(ghost) or "ghost" in repr(ghost)
        assert made == []
        vat, ghost, box = place.restart(vat, env=BIG_ENV)
        assert box.get() == [ghost]
        assert made == []
        assert send(ghost.name).result(timeout=30) == "ghost"
        assert made == ["ghost"]

    def test_a_turn_that_fails_after_making_one_can_be_tried_again(self, place):
        vat, _ = place.spawn(lambda: spawn(noted, "ghost"), env=BIG_ENV)
        vat, ghost = place.restart(vat, env=BIG_ENV)

        def body():
            ghost.name()
            raise Boom

        with pytest.raises(Boom):
            vat.run(body)
        assert ghost.name() == "ghost"

    def test_a_constructor_that_fails_to_make_it_again_is_an_error_of_that_use_only(self, place):
        broken = []

        @actor
        def moody(bcom, name):
            if broken:
                raise Boom("not today")
            return lambda: name

        env = PersistenceEnv("test", moody)
        vat, *_ = place.spawn(lambda: (spawn(moody, "one"), spawn(moody, "two")), env=env)
        _, one, two = place.restart(vat, env=env)
        broken.append(1)
        with pytest.raises(Boom, match="not today"):
            one()
        broken.clear()
        assert one() == "one"
        assert two() == "two"

    def test_a_constructor_that_does_not_take_what_is_stored_is_an_error_that_names_it(self, place):
        """LIM-22"""

        @actor(label="shop")
        def old(bcom, name):
            return lambda: name

        @actor(label="shop")
        def new(bcom, title):
            return lambda: title

        vat, _ = place.spawn(lambda: spawn(old, "corner"), env=PersistenceEnv("town", old))
        with pytest.raises(MigrationError, match=r"town\.shop.*title"):
            place.restart(vat, env=PersistenceEnv("town", new))
        _, ref = place.restart(env=PersistenceEnv("town", old))
        assert ref() == "corner"


class TestWhatIsNotStored:
    def test_an_actor_that_no_root_reaches_needs_no_portrait(self, place):
        """POR-08: nothing of it is stored."""
        vat, root = place.spawn(lambda: spawn(cell))
        run = vat.spawn(caller)
        odd = vat.spawn(cell, object())
        assert run(lambda: type(odd.get())) is object
        vat, root = place.restart(vat)
        assert root.get() is None

    def test_but_when_one_reaches_it_it_needs_one(self, place):
        """PV-16"""
        vat, root = place.spawn(lambda: spawn(cell, "before"))
        run = vat.spawn(caller)
        with pytest.raises(NotPortableError, match="caller"):
            root.put(run)
        assert root.get() == "before"

    def test_a_failing_turn_leaves_the_store_as_it_was(self, place):
        vat, ticks, box = place.spawn(lambda: (spawn(counter), spawn(cell, "before")))
        ticks()

        def body():
            ticks()
            box.put(spawn(cell, "lost"))
            raise Boom

        with pytest.raises(Boom):
            vat.run(body)
        vat, ticks, box = place.restart(vat)
        assert box.get() == "before"
        assert ticks() == 1

    def test_a_failing_turn_in_the_middle_of_a_churn_loses_only_its_own_changes(self, place):
        """TRN-12"""
        vat, one, two = place.spawn(lambda: (spawn(cell, 0), spawn(cell, 0)))
        run = vat.spawn(caller)

        def fail():
            two.put(1)
            raise Boom

        with vat:
            tell(run, lambda: one.put(1))
            tell(run, fail)
            tell(run, lambda: one.put(one.get() + 1))
        _, one, two = place.restart(vat)
        assert (one.get(), two.get()) == (2, 0)

    def test_a_failing_first_turn_of_a_churn_discards_nothing_of_the_others(self, place):
        """TRN-13"""
        vat, box, other = place.spawn(
            lambda: (spawn(cell, "before"), spawn(cell, "before")), vat_constructor=ManualVat
        )
        run = vat.spawn(caller)

        def first():
            other.put("undone")
            raise Boom("first")

        answer = send(run, first)
        vat.run(on, answer, catch=lambda error: box.put(str(error)))
        assert box.get() == "before"
        # One message from outside: its turn fails, and the listener is told in the same churn.
        assert vat.step()
        _, box, other = place.restart(vat)
        assert (box.get(), other.get()) == ("first", "before")

    def test_a_behavior_without_a_portrait_is_refused_in_the_turn_that_becomes_it(self, place):
        """ACT-13, LIM-19"""

        @actor
        def careless(bcom, n=0):
            def step(how):
                n_next = n + 1
                return bcom((lambda: n_next) if how == "plain" else careless(bcom, n_next), n)

            return step

        env = PersistenceEnv("test", careless)
        vat, ref = place.spawn(lambda: spawn(careless), env=env)
        assert ref("actor") == 0
        with pytest.raises((NotPortableError, BehaviorError, PersistenceError), match="careless"):
            ref("plain")
        assert ref("actor") == 1
        _, ref = place.restart(vat, env=env)
        assert ref("actor") == 2

    def test_an_actor_of_another_vat_cannot_be_stored_yet(self, place, vat):
        far = vat.spawn(counter)
        home, root = place.spawn(lambda: spawn(cell, "before"))
        with pytest.raises(NotPortableError, match="counter"):
            root.put({"far": far})
        assert root.get() == "before"
        home.close()


class TestOneBatchPerChurn:
    """Only what changed is written (guarantees G4, G5). The size of RocksDB's log shows it."""

    @staticmethod
    def log_size(rocks):
        return sum(path.stat().st_size for path in rocks.folder.rglob("*.log"))

    def test_a_churn_that_changes_nothing_writes_nothing(self, rocks):
        """PV-17, LIM-42"""
        vat, box = rocks.spawn(lambda: spawn(cell, "value"))
        before = self.log_size(rocks)
        assert before > 0
        for _ in range(100):
            assert box.get() == "value"
        vat.run(lambda: None)
        assert self.log_size(rocks) == before

    def test_spawns_of_what_is_not_stored_write_once_for_many(self, rocks):
        """Others may refer to them: their slots are not given away again, after a restart neither."""
        vat, _box = rocks.spawn(lambda: spawn(cell, "value"))
        before = self.log_size(rocks)
        vat.run(lambda: spawn(counter)())
        once = self.log_size(rocks) - before
        assert 0 < once < 100
        for _ in range(200):
            vat.run(lambda: spawn(counter)())
        assert self.log_size(rocks) == before + once

    def test_what_a_change_writes_does_not_grow_with_the_number_of_actors(self, rocks):
        def growth(part, actors):
            vat, ticks, _ = rocks.spawn(
                lambda: (spawn(counter), spawn(cell, [spawn(counter, n) for n in range(actors)])), part=part
            )
            before = self.log_size(rocks)
            for _ in range(100):
                ticks()
            vat.close()
            return self.log_size(rocks) - before

        few, many = growth("few", 10), growth("many", 10_000)
        assert few > 0
        assert abs(many - few) <= few * 0.2

    def test_a_failing_turn_writes_nothing(self, rocks):
        vat, ticks = rocks.spawn(lambda: spawn(counter))
        before = self.log_size(rocks)
        for _ in range(20):
            with failing_turn(vat):
                ticks()
                raise Boom
        assert self.log_size(rocks) == before


class TestLiveVatsAndParts:
    def test_a_part_has_one_live_vat(self, place):
        """STO-17, LIM-12"""
        vat, ticks = place.spawn(lambda: spawn(counter))
        with pytest.raises(StoreLockedError, match="main"):
            place.spawn(must_not_run)
        assert ticks() == 0
        vat.close()
        vat, ticks = place.spawn(must_not_run)
        assert ticks() == 1

    def test_a_closed_vat_frees_its_part_even_if_its_actors_are_still_held(self, place):
        vat, ticks = place.spawn(lambda: spawn(counter))
        ticks()
        vat.close()
        again, fresh = place.spawn(must_not_run)
        assert fresh() == 1
        assert fresh is not ticks
        with pytest.raises(VatClosedError):
            ticks()
        assert fresh() == 2
        again.close()

    def test_a_vat_that_nobody_holds_frees_its_part(self, place):
        """LIM-35"""
        vat, ticks = place.spawn(lambda: spawn(counter))
        ticks()
        del vat, ticks
        collect()
        _, ticks = place.spawn(must_not_run)
        assert ticks() == 1

    def test_an_opening_that_failed_frees_its_part(self, place):
        with pytest.raises(Boom):
            place.spawn(lambda: (_ for _ in ()).throw(Boom()))
        vat, ticks = place.spawn(lambda: spawn(counter))
        assert ticks() == 0
        vat.close()

    def test_named_parts_are_vats_of_their_own(self, place):
        vats = [place.spawn(lambda n=n: spawn(counter, n * 10), part=f"p{n}") for n in range(3)]
        for n, (_, ticks) in enumerate(vats):
            assert ticks() == n * 10
        for n in range(3):
            vats[n] = place.restart(*[vat for vat, _ in vats], part=f"p{n}")
        assert vats[2][1]() == 21

    def test_the_store_itself_stands_for_the_part_called_main(self, place):
        vat, ticks = place.spawn(lambda: spawn(counter))
        ticks()
        vat.close()
        vat, ticks = place.spawn(must_not_run, part="main")
        assert ticks() == 1
        vat.close()

    def test_the_parts_can_be_listed(self, place):
        assert list(place.store.vats()) == []
        for part in ("zoo", "bank"):
            place.spawn(lambda: spawn(counter), part=part)
        place.spawn(lambda: spawn(counter))
        assert sorted(place.store.vats()) == ["bank", "main", "zoo"]

    def test_a_part_where_nothing_was_made_is_not_listed(self, place):
        with pytest.raises(Boom):
            place.spawn(lambda: (_ for _ in ()).throw(Boom()), part="never")
        assert list(place.store.vats()) == []

    def test_a_vat_is_called_as_it_was_told_or_after_its_part(self, place):
        vat, _ = place.spawn(lambda: spawn(counter), name="teller", log=False, log_capacity=10)
        assert vat.name == "teller"
        vat.close()
        vat, _ = place.spawn(lambda: spawn(counter), part="vault")
        assert isinstance(vat.name, str)
        vat.close()


class TestClosing:
    def test_closing_the_store_closes_its_vats(self, place):
        vat, ticks = place.spawn(lambda: spawn(counter))
        other, box = place.spawn(lambda: spawn(cell), part="other")
        place.store.close()
        for use in (ticks, box.get, lambda: vat.run(print), lambda: other.spawn(counter)):
            with pytest.raises(VatClosedError):
                use()

    def test_closing_a_store_twice_is_fine(self, place):
        place.store.close()
        place.store.close()

    def test_a_closed_store_opens_no_vat(self, place):
        place.store.close()
        with pytest.raises(StoreError, match="closed"):
            place.spawn(lambda: spawn(counter))

    def test_a_store_is_closed_at_the_end_of_its_block(self, tmp_path):
        for store in (MemoryStore(), RocksStore(tmp_path / "s.db")):
            with store as entered:
                assert entered is store
                _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
                assert ticks() == 0
            with pytest.raises(VatClosedError):
                ticks()

    def test_a_store_is_closed_when_its_block_raises(self, tmp_path):
        def work():
            with RocksStore(tmp_path / "s.db") as store:
                spawn_persistent_vat(ENV, lambda: spawn(counter), store)[1]()
                raise Boom

        with pytest.raises(Boom):
            work()
        with RocksStore(tmp_path / "s.db") as store:
            _, ticks = spawn_persistent_vat(ENV, must_not_run, store)
            assert ticks() == 1

    def test_what_was_acknowledged_is_there_whether_it_syncs_or_not(self, tmp_path):
        for sync in (True, False):
            path = tmp_path / f"sync-{sync}"
            with RocksStore(path, sync=sync) as store:
                _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
                for _ in range(10):
                    ticks()
            with RocksStore(path, sync=sync) as store:
                _, ticks = spawn_persistent_vat(ENV, must_not_run, store)
                assert ticks() == 10

    def test_a_store_that_nobody_holds_can_be_opened_again(self, tmp_path):
        """Forgetting to close it is no catastrophe."""
        store = RocksStore(tmp_path / "s.db")
        vat, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
        ticks()
        with pytest.warns(ResourceWarning, match=f"unclosed store {tmp_path / 's.db'}: close it"):  # noqa: PT031
            del store, vat, ticks
            collect()
        with RocksStore(tmp_path / "s.db") as store:
            _, ticks = spawn_persistent_vat(ENV, must_not_run, store)
            assert ticks() == 1

    def test_a_store_without_vats_that_nobody_holds_is_warned_of(self, tmp_path):
        store = RocksStore(tmp_path / "s.db")
        with pytest.warns(ResourceWarning, match="unclosed store"):  # noqa: PT031
            del store
            collect()

    def test_a_store_that_only_its_actors_hold_stays_open(self, tmp_path):
        def open_it():
            return spawn_persistent_vat(ENV, lambda: spawn(counter), RocksStore(tmp_path / "s.db"))[1]

        ticks = open_it()
        collect()
        assert [ticks(), ticks()] == [0, 1]
        with pytest.warns(ResourceWarning, match="unclosed store"):  # noqa: PT031
            del ticks
            collect()

    def test_nobody_is_warned_of_what_was_closed_or_is_in_memory_only(self, tmp_path):
        stores = [RocksStore(tmp_path / "s.db"), MemoryStore()]
        stores[0].close()
        # The suite makes an error of each warning.
        del stores
        collect()


class TestManyThreadsAndVats:
    def test_many_threads_lose_nothing(self, place):
        vat, ticks = place.spawn(lambda: spawn(counter))
        threads = [threading.Thread(target=lambda: [ticks() for _ in range(100)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _, ticks = place.restart(vat)
        assert ticks() == 800

    def test_many_threads_that_wait_for_the_disk_lose_nothing(self, tmp_path):
        with RocksStore(tmp_path / "s.db", sync=True) as store:
            vats = [
                spawn_persistent_vat(ENV, lambda: spawn(counter), store.vat(f"v{n}"))[1] for n in range(4)
            ]
            threads = [
                threading.Thread(target=lambda t=ticks: [t() for _ in range(50)])
                for ticks in vats
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        with RocksStore(tmp_path / "s.db", sync=True) as store:
            for n in range(4):
                _, ticks = spawn_persistent_vat(ENV, must_not_run, store.vat(f"v{n}"))
                assert ticks() == 100

    @pytest.mark.parametrize("sync", [True, False])
    def test_vats_of_one_store_send_to_each_other(self, tmp_path, sync):
        with RocksStore(tmp_path / "s.db", sync=sync) as store:
            one, box = spawn_persistent_vat(ENV, lambda: spawn(cell, 0), store.vat("one"))
            _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store.vat("two"))
            for _ in range(20):
                with one:
                    answer = on(send(ticks), box.put)
                answer.result(timeout=30)
            assert box.get() == 19

    def test_a_persistent_vat_and_one_in_memory_send_to_each_other(self, place, vat):
        home, box = place.spawn(lambda: spawn(cell, 0))
        ticks = vat.spawn(counter, 5)
        with home:
            answer = on(send(ticks), box.put)
        answer.result(timeout=30)
        assert box.get() == 5
        with vat:
            answer = send(box.get)
        assert answer.result(timeout=30) == 5
        _, box = place.restart(home)
        assert box.get() == 5


class TestEnvironments:
    def test_the_same_constructor_twice_is_an_error(self):
        """ENV-05, LIM-21"""
        with pytest.raises(DuplicateLabelError, match="counter"):
            PersistenceEnv("test", counter, counter)

    def test_two_constructors_of_one_label_are_an_error(self):
        """ENV-05"""

        @actor(label="counter")
        def other(bcom):
            return lambda: None

        with pytest.raises(DuplicateLabelError, match="counter"):
            PersistenceEnv("test", counter, other)

    def test_what_has_no_portrait_cannot_be_in_it(self):
        for thing in (lambda bcom: print, 42, None, "counter"):
            with pytest.raises(TypeError):
                PersistenceEnv("test", thing)

    def test_the_namespace_is_a_text(self):
        with pytest.raises(TypeError):
            PersistenceEnv(3, counter)

    def test_the_same_label_in_two_namespaces_is_two_constructors(self, place):
        one = PersistenceEnv("one", counter)
        vat, _ = place.spawn(lambda: spawn(counter), env=one)
        with pytest.raises(LookupError, match=r"one\.counter"):
            place.restart(vat, env=PersistenceEnv("two", counter))
