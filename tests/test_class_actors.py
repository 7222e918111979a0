"""Actors as classes: fields are the state, methods are the messages, each is all or nothing (G1)."""

import asyncio
import bisect
import gc
import heapq
import random
import weakref
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import goblins
import pytest
from goblins import (
    Actor,
    BehaviorError,
    GoblinsError,
    MemoryStore,
    MigrationError,
    NoSuchMethodError,
    NotPortableError,
    NoTurnError,
    PersistenceEnv,
    Ref,
    actor,
    field,
    methods,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_named,
    spawn_persistent_vat,
    tell,
)
from support import Boom, caller, cell, collect, echo, must_not_run


class Account(Actor):
    owner: str
    balance: int = 0
    history: list[int] = []

    def deposit(self, amount: int) -> int:
        self.balance += amount
        self.history.append(amount)
        return self.balance

    def fail_after(self, amount):
        self.deposit(amount)
        raise Boom("too much")

    def state(self):
        return self.owner, self.balance, self.history


class Box(Actor):
    """Holds anything, and does anything to it."""

    value: Any = None
    other: Any = None

    def put(self, value):
        self.value = value

    def get(self):
        return self.value

    def change(self, how, *, fail=False):
        answer = how(self)
        if fail:
            raise Boom
        return answer


ENV = PersistenceEnv("test", Account, Box)


class TestFields:
    def test_they_are_declared_as_in_a_dataclass(self, vat):
        class Item(Actor):
            kinds: ClassVar[list] = ["a", "b"]
            name: str
            price: float = 1.5
            tags: list[str] = field(default_factory=lambda: ["new"])
            _: KW_ONLY
            hidden: bool = False

            def all(self):
                return self.name, self.price, self.tags, self.hidden, self.kinds

        item = vat.spawn(Item, "pen", hidden=True)
        assert item.all() == ("pen", 1.5, ["new"], True, ["a", "b"])
        with pytest.raises(TypeError):
            vat.spawn(Item)
        with pytest.raises(TypeError):
            vat.spawn(Item, "pen", 1.0, [], True)
        with pytest.raises(TypeError, match="colour"):
            vat.spawn(Item, "pen", colour="red")

    def test_a_mutable_default_is_copied_for_each_actor(self, vat):
        one, two = vat.spawn(Account, "one"), vat.spawn(Account, "two")
        one.deposit(1)
        assert one.state() == ("one", 1, [1])
        assert two.state() == ("two", 0, [])

    def test_a_class_may_extend_another(self, vat):
        class Savings(Account):
            rate: float = 0.5
            owner: str = "nobody"

            def deposit(self, amount):
                return super().deposit(amount * 2)

            def interest(self):
                return self.balance * self.rate

        savings = vat.spawn(Savings)
        assert savings.deposit(5) == 10
        assert savings.interest() == 5
        assert savings.state() == ("nobody", 10, [10])

    def test_post_init_runs_as_the_actor(self, vat):
        class Child(Actor):
            name: str
            me: Any = None
            friends: list = []

            def __post_init__(self):
                self.me = self.ref
                self.friends.append(spawn(Account, self.name))

            def get(self):
                return self.me, self.friends[0].state()

        child = vat.spawn(Child, "Ada")
        assert child.get() == (child, ("Ada", 0, []))

    def test_an_error_in_init_makes_no_actor(self, vat):
        class Bad(Actor):
            def __post_init__(self):
                raise Boom("no")

        with pytest.raises(Boom):
            vat.spawn(Bad)

    def test_what_is_no_field_is_refused_with_its_name(self, vat):
        box = vat.spawn(Box)
        with pytest.raises(BehaviorError, match="cache"):
            box.change(lambda self: setattr(self, "cache", 1))
        with pytest.raises(BehaviorError, match="hidden"):
            box.change(lambda self: (setattr(self, "value", 1), vars(self).update(hidden=1)))
        assert box.get() is None

    def test_a_field_cannot_be_deleted(self, vat):
        box = vat.spawn(Box, 1)
        with pytest.raises(AttributeError, match="value"):
            box.change(lambda self: delattr(self, "value"))
        with pytest.raises(AttributeError, match="value"):
            box.change(lambda self: (setattr(self, "other", 1), vars(self).pop("value")))
        assert box.get() == 1

    def test_a_field_must_not_have_the_name_of_what_actors_have(self):
        with pytest.raises(BehaviorError, match="ref"):

            class Bad(Actor):
                ref: int = 0

    def test_fields_can_be_used_in_turns_of_their_vat_only(self, vat, other_vat):
        leaked = []
        box = vat.spawn(Box, [1])
        box.change(leaked.append)
        with pytest.raises(NoTurnError, match="Box#"):
            leaked[0].value = 2
        with pytest.raises(NoTurnError):
            _ = leaked[0].value
        with pytest.raises(NoTurnError), other_vat:
            leaked[0].value = 3
        assert box.get() == [1]

    def test_an_instance_that_is_no_actor_says_so(self):
        account = Account("Ada")
        assert account.owner == "Ada"
        with pytest.raises(NoTurnError, match="spawn"):
            _ = account.ref


class TestMessages:
    def test_private_names_properties_and_helpers_are_not_messages(self, vat):
        class Shy(Actor):
            value: int = 1

            def _secret(self):
                return "secret"

            @property
            def double(self):
                return self.value * 2

            @staticmethod
            def helper(n):
                return n + 1

            @classmethod
            def kind(cls):
                return cls.__name__

            def restored(self):
                raise AssertionError("only when it was made again")

            def all(self):
                return self._secret(), self.double, self.helper(1), self.kind()

        shy = vat.spawn(Shy)
        assert shy.all() == ("secret", 2, 2, "Shy")
        for name in ("double", "helper", "kind", "restored", "value", "become", "missing"):
            with pytest.raises(NoSuchMethodError, match="all"):
                getattr(shy, name)()
        with pytest.raises(AttributeError):
            _ = shy._secret

    def test_one_that_can_be_called_is(self, vat):
        class Callable(Actor):
            count: int = 0

            def __call__(self, by=1):
                self.count += by
                return self.count

        count = vat.spawn(Callable)
        assert (count(), count(by=5), send(count).result(30)) == (1, 6, 7)
        with pytest.raises(NoSuchMethodError, match="deposit"):
            vat.spawn(Account, "Ada")()

    def test_keywords_and_defaults_work_as_in_python(self, vat):
        class Adder(Actor):
            def add(self, a, b=2, *more, c, **rest):
                return a, b, more, c, rest

        adder = vat.spawn(Adder)
        assert adder.add(1, c=3) == (1, 2, (), 3, {})
        assert adder.add(1, 5, 6, c=3, d=4) == (1, 5, (6,), 3, {"d": 4})
        assert vat.run(lambda: adder.add(*[1], c=3)) == (1, 2, (), 3, {})
        assert send(adder.add, 1, c=3).result(30) == (1, 2, (), 3, {})

    def test_the_reference_is_one_object_inside_and_outside(self, vat):
        box = vat.spawn(Box)
        assert box.change(lambda self: self.ref) is box
        assert isinstance(box, Ref)

    def test_an_actor_may_become_another(self, vat):
        class Egg(Actor):
            colour: str

            def hatch(self):
                return self.become(Bird(self.colour, 0), "crack")

        class Bird(Actor):
            colour: str
            songs: int

            def sing(self):
                self.songs += 1
                return self.colour, self.songs, self.ref

        egg = vat.spawn(Egg, "blue")
        assert egg.hatch() == "crack"
        assert egg.sing() == ("blue", 1, egg)
        assert egg.sing() == ("blue", 2, egg)

    def test_and_back_when_the_turn_fails(self, vat):
        class Egg(Actor):
            def hatch(self):
                return self.become(Box("bird"))

            def kind(self):
                return "egg"

        egg = vat.spawn(Egg)
        with pytest.raises(Boom), vat:
            egg.hatch()
            assert egg.get() == "bird"
            raise Boom
        assert egg.kind() == "egg"

    def test_functional_actors_and_classes_become_each_other(self, vat):
        @actor
        def seed(bcom):
            return lambda: bcom(Box("grown"), "done")

        ref = vat.spawn(seed)
        assert ref() == "done"
        assert ref.get() == "grown"


CHANGES = {
    "assign": lambda box: setattr(box, "value", 7),
    "append": lambda box: box.value.append(4),
    "extend": lambda box: box.value.extend([4, 5]),
    "insert": lambda box: box.value.insert(0, 9),
    "pop": lambda box: box.value.pop(),
    "clear": lambda box: box.value.clear(),
    "slice": lambda box: box.value.__setitem__(slice(0, 2), [7, 8, 9]),
    "delete": lambda box: box.value.__delitem__(0),
    "sort": lambda box: box.value.sort(reverse=True),
    "reverse": lambda box: box.value.reverse(),
    "iadd": lambda box: box.value.__iadd__([1]),
    "heappush": lambda box: heapq.heappush(box.value, 0),
    "insort": lambda box: bisect.insort(box.value, 2),
    "shuffle": lambda box: random.Random(3).shuffle(box.value),
}
NESTED = {
    "list in dict": ({"a": [1]}, lambda box: box.value["a"].append(2)),
    "dict in list": ([{"a": 1}], lambda box: box.value[0].update(a=2)),
    "set": ({1}, lambda box: box.value.add(2)),
    "set in dict": ({"s": {1}}, lambda box: box.value["s"].discard(1)),
    "bytearray": (bytearray(b"ab"), lambda box: box.value.extend(b"c")),
    "bytearray in list": ([bytearray(b"ab")], lambda box: box.value[0].__setitem__(0, 0)),
    "list in tuple": (([1], 2), lambda box: box.value[0].append(3)),
    "deep": ([[[[1]]]], lambda box: box.value[0][0][0].append(2)),
    "dict order": ({"a": 1, "b": 2}, lambda box: box.value.__setitem__("a", box.value.pop("a"))),
    "swap": ([[1], [2]], lambda box: box.value.reverse()),
}


def snapshot(value):
    return repr(value)


class TestChangesInPlace:
    @pytest.mark.parametrize("how", CHANGES.values(), ids=CHANGES)
    def test_they_are_kept_when_the_turn_succeeds_and_undone_when_it_fails(self, vat, how):
        box = vat.spawn(Box, [3, 1, 2])
        with pytest.raises(Boom):
            box.change(how, fail=True)
        assert box.get() == [3, 1, 2]
        box.change(how)
        assert box.get() != [3, 1, 2]

    @pytest.mark.parametrize(("value", "how"), NESTED.values(), ids=NESTED)
    def test_also_in_nested_containers(self, place, value, how):
        vat, box = place.spawn(lambda: spawn(Box, value), env=ENV)
        before = snapshot(box.get())
        with pytest.raises(Boom):
            box.change(how, fail=True)
        assert snapshot(box.get()) == before
        box.change(how)
        after = snapshot(box.get())
        assert after != before
        _, box = place.restart(vat, env=ENV)
        assert snapshot(box.get()) == after

    def test_nested_containers_keep_their_identity_through_an_undo(self, vat):
        kept = []
        box = vat.spawn(Box, [[1], [2]])
        box.change(lambda self: kept.extend(self.value))
        with pytest.raises(Boom):
            box.change(lambda self: (self.value.pop(), self.value[0].append(5)), fail=True)
        assert box.change(lambda self: self.value[0] is kept[0] and self.value[1] is kept[1])
        kept.clear()

    def test_what_two_fields_were_given_are_two_from_the_end_of_the_turn_on(self, place):
        vat, box = place.spawn(lambda: spawn(Box), env=ENV)

        def share(self):
            self.value = self.other = []
            self.value.append(1)
            return self.value is self.other

        assert box.change(share)
        box.change(lambda self: self.value.append(2))
        assert box.change(lambda self: (self.value, self.other)) == ([1, 2], [1])
        _, box = place.restart(vat, env=ENV)
        assert box.change(lambda self: (self.value, self.other)) == ([1, 2], [1])

    def test_a_container_that_holds_itself_is_fine(self, vat):
        box = vat.spawn(Box)

        def make(self):
            self.value = []
            self.value.append(self.value)

        box.change(make)
        assert box.change(lambda self: self.value[0] is self.value)
        with pytest.raises(Boom):
            box.change(lambda self: self.value.append(1), fail=True)
        assert box.change(lambda self: len(self.value)) == 1

    def test_a_caught_error_of_a_nested_call_undoes_nothing(self, vat):
        """TRN-04"""
        account = vat.spawn(Account, "Ada")

        def body():
            with pytest.raises(Boom):
                account.fail_after(5)
            return account.state()

        assert vat.run(body) == ("Ada", 5, [5])

    def test_a_failing_turn_undoes_all_actors_that_it_touched(self, vat):
        accounts = [vat.spawn(Account, str(n)) for n in range(5)]
        with pytest.raises(Boom), vat:
            for account in accounts:
                account.deposit(1)
            accounts[2].fail_after(1)
        assert [account.state()[1:] for account in accounts] == [(0, [])] * 5

    def test_a_field_that_was_said_to_be_plain_may_come_to_hold_a_list(self, vat):
        class Wrong(Actor):
            value: int = 0

            def put(self, value):
                self.value = value

            def add(self, n, fail=False):
                self.value.append(n)
                if fail:
                    raise Boom
                return self.value

        wrong = vat.spawn(Wrong)
        wrong.put([])
        assert wrong.add(1) == [1]
        with pytest.raises(Boom):
            wrong.add(2, fail=True)
        assert wrong.add(3) == [1, 3]

    def test_handlers_change_their_actor_too(self, place):
        class Waiter(Actor):
            seen: list = []
            count: int = 0

            def wait(self, promise, fail=False):
                def handle(value):
                    self.seen.append(value)
                    self.count += 1
                    if fail:
                        raise Boom

                return on(promise, handle)

            def get(self):
                return self.seen, self.count

        env = PersistenceEnv("test", Waiter)
        vat, waiter = place.spawn(lambda: spawn(Waiter), env=env)
        promise, resolver = promise_and_resolver()
        kept, undone = waiter.wait(promise), waiter.wait(promise, fail=True)
        resolver.fulfil("value")
        kept.result(30)
        with pytest.raises(Boom):
            undone.result(30)
        assert waiter.get() == (["value"], 1)
        _, waiter = place.restart(vat, env=env)
        assert waiter.get() == (["value"], 1)


class TestNothingIsShared:
    def test_a_field_that_is_handed_out_is_a_copy(self, vat):
        account = vat.spawn(Account, "Ada")
        account.deposit(1)
        _, _, history = account.state()
        history.append("leak")
        assert account.state() == ("Ada", 1, [1])

    def test_also_inside_of_others_and_nested(self, vat):
        box = vat.spawn(Box, {"a": [1]})
        got = box.change(lambda self: [("x", self.value["a"])])
        got[0][1].append("leak")
        assert box.get() == {"a": [1]}

    def test_what_comes_in_is_copied(self, vat):
        mine = [1, [2]]
        box = vat.spawn(Box, mine)
        mine[1].append("leak")
        assert box.get() == [1, [2]]
        more = {"a": []}
        box.put(more)
        more["a"].append("leak")
        assert box.get() == {"a": []}
        inner = []
        box.change(lambda self: self.value.update(b=inner))
        inner.append("leak")
        assert box.get() == {"a": [], "b": []}

    def test_messages_carry_copies(self, vat, other_vat):
        got = []
        taker = vat.spawn(lambda bcom: lambda *args, **kwargs: got.append((args, kwargs)))
        far = other_vat.spawn(lambda bcom: lambda *args: got.append((args, {})))
        box = vat.spawn(Box, [1])
        box.change(lambda self: taker(self.value, k=self.value))
        box.change(lambda self: tell(taker, self.value, k=[self.value]))
        box.change(lambda self: tell(far, self.value))
        vat.drain(30)
        other_vat.drain(30)
        assert got == [(([1],), {"k": [1]}), (([1],), {"k": [[1]]}), (([1],), {})]
        for args, _ in got:
            args[0].append("leak")
        assert box.get() == [1]

    def test_actors_that_are_spawned_and_promises_that_are_fulfilled_get_copies(self, vat):
        promise, resolver = promise_and_resolver()
        box = vat.spawn(Box, [1])
        other = box.change(lambda self: (resolver.fulfil(self.value), spawn(Box, self.value))[1])
        other.change(lambda self: self.value.append(2))
        promise.result(30).append(3)
        assert (box.get(), other.get()) == ([1], [1, 2])

    def test_a_large_message_that_is_not_of_a_field_is_passed_as_it_is(self, vat):
        big = list(range(1000))
        box = vat.spawn(Box)
        assert box.change(lambda self: big) is big


class TestAsync:
    def test_async_methods_change_their_fields_in_each_stretch(self, vat):
        class Worker(Actor):
            log: list = []
            count: int = 0

            async def work(self, friend):
                log = self.log
                log.append("before")
                got = await send(friend, 41)
                log.append(got)
                self.count = got + 1
                return self.count

            async def fail(self, friend):
                self.log.append("kept")
                log = self.log
                await send(friend, 0)
                log.append("undone")
                self.count = -1
                raise Boom

            def get(self):
                return self.log, self.count

        worker, friend = vat.spawn(Worker), vat.spawn(echo)
        assert send(worker.work, friend).result(30) == 42
        assert worker.get() == (["before", 41], 42)
        with pytest.raises(Boom):
            send(worker.fail, friend).result(30)
        assert worker.get() == (["before", 41, "kept"], 42)

    async def test_they_can_be_awaited_from_asyncio(self, vat):
        class Worker(Actor):
            async def twice(self, friend, value):
                return 2 * await send(friend, value)

        worker, friend = vat.spawn(Worker), vat.spawn(echo)
        assert await asyncio.gather(*(send(worker.twice, friend, n) for n in range(10))) == [
            2 * n for n in range(10)
        ]
        assert await worker.twice(friend, 4) == 8


class TestStored:
    def test_fields_are_stored_and_come_back(self, place):
        vat, ada = place.spawn(lambda: spawn(Account, "Ada"), env=ENV)
        assert [ada.deposit(n) for n in (1, 2, 3)] == [1, 3, 6]
        with pytest.raises(Boom):
            ada.fail_after(10)
        _, ada = place.restart(vat, env=ENV)
        assert ada.state() == ("Ada", 6, [1, 2, 3])
        assert ada.deposit(4) == 10

    def test_references_cycles_and_names_are_kept(self, place):
        def roots():
            one = spawn_named("the first", Box)
            two = spawn(Box, {one: [one]})
            one.put((two,))
            return one

        vat, one = place.spawn(roots, env=ENV)
        _, one = place.restart(vat, env=ENV)
        assert "the first" in repr(one)
        (two,) = one.get()
        assert two.get() == {one: [one]}

    def test_restored_runs_when_it_was_made_again_and_post_init_does_not(self, place):
        ran = []

        class Hooked(Actor):
            value: int = 0

            def __post_init__(self):
                ran.append("post_init")

            def restored(self):
                ran.append(("restored", self.value, self.ref))

            def get(self):
                return self.value

        env = PersistenceEnv("test", Hooked)
        vat, hooked = place.spawn(lambda: spawn(Hooked, 3), env=env)
        assert ran == ["post_init"]
        _, hooked = place.restart(vat, env=env)
        assert ran == ["post_init"]
        assert hooked.get() == 3
        assert ran == ["post_init", ("restored", 3, hooked)]

    def test_a_new_field_with_a_default_needs_no_upgrade(self, place):
        class Old(Actor, label="item"):
            name: str

        class New(Actor, label="item"):
            name: str
            price: float = 1.5
            tags: list = []

            def all(self):
                return self.name, self.price, self.tags

        vat, _ = place.spawn(lambda: spawn(Old, "pen"), env=PersistenceEnv("test", Old))
        _, item = place.restart(vat, env=PersistenceEnv("test", New))
        assert item.all() == ("pen", 1.5, [])

    def test_a_field_that_went_or_has_no_default_is_an_error_that_names_it(self, place):
        class Old(Actor, label="item"):
            name: str = ""
            price: float = 0.0

        class Less(Actor, label="item"):
            name: str = ""

            def get(self):
                return self.name

        class More(Actor, label="item"):
            name: str
            price: float
            colour: str

            def get(self):
                return self.name

        class Newer(Actor, label="item", version=2):
            name: str = ""
            price: float = 0.0

            def get(self):
                return self.name

        vat, _ = place.spawn(lambda: spawn(Old, "pen"), env=PersistenceEnv("test", Old))
        for new, text in ((Less, "price"), (More, "colour"), (Newer, "version")):
            with pytest.raises(MigrationError, match=text):
                place.restart(vat, env=PersistenceEnv("test", new))
        _, item = place.restart(env=PersistenceEnv("test", Old))
        assert isinstance(item, Ref)

    def test_a_value_that_cannot_be_stored_fails_its_turn_with_the_path(self, place):
        vat, box = place.spawn(lambda: spawn(Box, []), env=ENV)
        with pytest.raises(NotPortableError) as caught:
            box.change(lambda self: self.value.append({"file": object()}))
        assert caught.value.path == "value[0].file"
        assert caught.value.label == "test.Box"
        assert box.get() == []
        box.put(1)
        _, box = place.restart(vat, env=ENV)
        assert box.get() == 1

    def test_an_actor_without_a_class_in_the_environment_is_refused(self, place):
        class Stranger(Actor):
            pass

        _, box = place.spawn(lambda: spawn(Box), env=ENV)
        with pytest.raises(NotPortableError, match="Stranger"):
            box.change(lambda self: setattr(self, "value", spawn(Stranger)))
        assert box.get() is None

    def test_a_turn_that_only_reads_writes_nothing(self, rocks):
        vat, box = rocks.spawn(lambda: spawn(Box, [1, [2]]), env=ENV)
        box.get()

        def size():
            return sum(path.stat().st_size for path in (rocks.folder).rglob("*.log"))

        before = size()
        for _ in range(100):
            box.get()
            box.change(lambda self: (self.value.append(1), self.value.pop()))
        assert size() == before
        box.put(2)
        assert size() > before
        vat.close()

    def test_classes_and_functions_live_in_one_environment(self, place):
        env = PersistenceEnv("test", Account, cell) | PersistenceEnv("more", Box)
        vat, box, _ = place.spawn(lambda: (spawn(cell, spawn(Account, "Ada")), spawn(Box, 1)), env=env)
        vat, box, other = place.restart(vat, env=env)
        assert box.get().state() == ("Ada", 0, [])
        assert other.get() == 1

    @pytest.mark.parametrize(
        "thing", [Actor, int, object, Account("Ada")], ids=["Actor", "int", "object", "instance"]
    )
    def test_what_is_no_class_of_actors_cannot_be_in_it(self, thing):
        with pytest.raises(TypeError):
            PersistenceEnv("test", thing)


class TestMemory:
    def test_an_actor_that_nobody_knows_goes_at_once(self, vat):
        box = vat.spawn(Box, [1])
        box.change(lambda self: self.value.append(2))
        seen = []
        box.change(lambda self: seen.append(weakref.ref(self)))
        gc.disable()
        try:
            del box
            assert seen[0]() is None
        finally:
            gc.enable()

    def test_cycles_are_collected(self, vat):
        box = vat.spawn(Box)
        box.put([box])
        seen = []
        box.change(lambda self: seen.append(weakref.ref(self)))
        del box
        collect()
        assert seen[0]() is None

    def test_a_failed_turn_keeps_nothing(self, vat):
        class Thing:
            pass

        box = vat.spawn(Box, [])
        thing = Thing()
        seen = weakref.ref(thing)
        with pytest.raises(Boom):
            box.change(lambda self, thing=thing: self.value.append(thing), fail=True)
        del thing
        box.get()
        collect()
        assert seen() is None


def test_methods_of_a_class_are_called_in_near_turns_without_copies_of_what_is_not_theirs(vat):
    class Plain:
        pass

    thing = Plain()
    box, call = vat.spawn(Box), vat.spawn(caller)
    box.put(thing)
    assert call(box.get) is thing


def test_the_public_names_are_there():
    assert {"Actor", "field"} <= set(goblins.__all__)
    assert issubclass(BehaviorError, GoblinsError)
    assert methods is goblins.methods


class TestTwoActors:
    """An instance is the behavior of one actor."""

    class Blank(Actor):
        n: int = 0

        def become_this(self, give):
            return self.become(give(), "done")

        def change(self):
            self.n += 1
            return self.n

    def test_cant_become_the_same_instance(self, vat):
        blank = self.Blank()
        one, two = vat.spawn(self.Blank), vat.spawn(self.Blank)
        assert one.become_this(lambda: blank) == "done"
        with pytest.raises(BehaviorError, match="make a new instance"):
            two.become_this(lambda: blank)
        assert (one.change(), two.change(), one.change()) == (1, 1, 2)

    def test_but_one_may_become_it_again_and_so_may_others_when_that_one_is_gone(self, vat):
        blank = self.Blank()
        one, two = vat.spawn(self.Blank), vat.spawn(self.Blank)
        assert one.become_this(lambda: blank) == one.become_this(lambda: blank) == "done"
        del one
        gc.collect()
        assert two.become_this(lambda: blank) == "done"
        assert two.change() == 1

    def test_cant_be_made_of_the_same_instance(self, vat):
        class Single(Actor):
            n: int = 0
            made: ClassVar[list] = []

            def __new__(cls):
                cls.made.append(cls.made[0] if cls.made else super().__new__(cls))
                return cls.made[-1]

        one = vat.spawn(Single)
        with pytest.raises(BehaviorError, match="make a new instance"):
            vat.spawn(Single)
        del one


class Tally(Actor):
    n: int = 0
    items: list = []

    def add(self, *, fail: bool = False):
        self.n += 1
        self.items.append(self.n)
        if fail:
            raise Boom
        return self.ref

    def get(self):
        return self.n, self.items


def tally(bcom):
    return Tally(5)


@pytest.mark.parametrize("constructor", [tally, actor(tally)], ids=["plain", "decorated"])
class TestAnInstanceThatAConstructorReturns:
    """It is an actor like one that was spawned of its class."""

    def test_is_undone_with_its_turn_and_has_a_ref(self, vat, constructor):
        one = vat.spawn(constructor)
        with pytest.raises(Boom):
            one.add(fail=True)
        assert one.add() is one
        assert one.get() == (6, [6])

    def test_is_stored(self, constructor):
        env, store = PersistenceEnv({"tally": constructor, "Tally": Tally}), MemoryStore()
        vat, one = spawn_persistent_vat(env, lambda: spawn(constructor), store)
        one.add()
        vat.close()
        assert spawn_persistent_vat(env, must_not_run, store)[1].get() == (6, [6])


def test_a_function_that_was_an_actor_of_its_own_may_return_an_instance_in_the_next_release():
    def function(bcom, n):
        return methods(get=lambda: n)

    store, made = MemoryStore(), actor(function, label="tally.tally")
    vat, one = spawn_persistent_vat(PersistenceEnv("t", made), lambda: spawn(made, 5), store)
    vat.close()
    made = actor(lambda bcom, n: Tally(n), label="tally.tally")
    env = PersistenceEnv("t", made, Tally)
    for n in (6, 7):
        vat, one = spawn_persistent_vat(env, must_not_run, store)
        with pytest.raises(Boom):
            one.add(fail=True)
        one.add()
        assert one.get()[0] == n
        vat.close()


class TestInstancesThatOutliveTheirActors:
    @pytest.fixture
    def left(self, vat):
        class Box(Actor):
            number: int = 1
            items: list = []

            def leak(self, to):
                to.append(weakref.ref(self))
                to.append(lambda: self)

        kept = []
        box = vat.spawn(Box)
        box.leak(kept)
        del box
        gc.collect()
        return kept[1]()

    def test_their_fields_can_be_used_in_a_turn(self, vat, left):
        def change():
            left.number += 1
            left.items.append(left.number)
            return left.number, list(left.items)

        assert vat.run(change) == (2, [2])

    def test_outside_of_turns_an_error_says_that_the_actor_is_gone(self, left):
        with pytest.raises(NoTurnError, match="fields of this Box can't be used: nobody refers to its actor"):
            left.items.append(1)
        with pytest.raises(NoTurnError, match="nobody refers to its actor any more"):
            left.number = 5

    def test_they_have_no_ref(self, left):
        with pytest.raises(NoTurnError, match="this instance of Box is no actor"):
            _ = left.ref
