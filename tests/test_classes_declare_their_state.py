"""What in the body of a class of actors is state, what is shared, and what is neither."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import types
import typing as t
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import MutableSequence
from dataclasses import KW_ONLY, InitVar
from typing import Annotated, Any, Final, Generic, TypeVar
from typing import ClassVar as Shared

import pytest
import typing_extensions as te
from goblins import (
    Actor,
    BehaviorError,
    MemoryStore,
    PersistenceEnv,
    field,
    persistable_id,
    spawn,
    spawn_named,
    spawn_persistent_vat,
)
from support import Boom

if t.TYPE_CHECKING:
    from typing import ClassVar

T = TypeVar("T")


def own(kind):
    """A container of a class of the program's own."""
    methods = dict.fromkeys(kind.__abstractmethods__ if inspect.isabstract(kind) else (), lambda *_: 0)
    return types.new_class("Own", (kind,), exec_body=lambda body: body.update(methods))()


def names_of(cls):
    return [one.name for one in dataclasses.fields(cls)]


def opened(cls, *args, store=None):
    """A vat in a store with one actor, opened again."""
    store = store or MemoryStore()
    env = PersistenceEnv("test", cls)
    vat, _ = spawn_persistent_vat(env, lambda: spawn(cls, *args), store)
    vat.close()
    return spawn_persistent_vat(env, lambda: spawn(cls, *args), store)


class TestClassVariables:
    def test_are_known_by_what_their_names_stand_for(self, vat):
        class Item(Actor):
            a: t.ClassVar[list] = [1]
            b: Shared[dict] = {}
            c: te.ClassVar[set] = set()
            d: te.ClassVar[int] = 1
            e: "t.ClassVar[list]" = []  # noqa: UP037
            f: t.ClassVar = []
            n: int = 0

            def get(self):
                return self.a is Item.a, self.d, self.n

        assert names_of(Item) == ["n"]
        assert vat.spawn(Item, 5).get() == (True, 1, 5)

    def test_are_known_by_their_name_where_only_type_checkers_import_it(self):
        class Item(Actor):
            a: ClassVar[list] = []
            n: int = 0

        assert names_of(Item) == ["n"]

    def test_may_stand_within_annotated(self):
        class Item(Actor):
            a: Annotated[t.ClassVar[list], "a note"] = []
            b: Annotated[Shared[int], "a note"] = 1
            n: Annotated[list, "no class variable"] = []

        assert names_of(Item) == ["n"]
        assert Item.a == []

    def test_leave_the_annotations_as_they_were_written(self):
        class Item(Actor):
            a: te.ClassVar[list] = []
            n: int = 0

        assert Item.__annotations__ == {"a": "te.ClassVar[list]", "n": "int"}

    def test_what_only_looks_like_one_is_a_field(self):
        class Item(Actor):
            n: ClassVarious = 0  # noqa: F821
            m: list[Shared] = []

        assert names_of(Item) == ["n", "m"]


class TestOtherForms:
    def test_final_is_a_field(self, vat):
        class Item(Actor):
            a: Final[int] = 1
            b: t.Final[list] = []

            def get(self):
                return self.a, self.b

        assert vat.spawn(Item, 2).get() == (2, [])

    def test_what_init_alone_takes_is_none(self, vat):
        class Item(Actor):
            n: int = 0
            start: InitVar[int] = 3
            more: Annotated[dataclasses.InitVar[int], "a note"] = 4

            def __post_init__(self, start, more):
                self.n += start + more

            def get(self):
                return self.n

        assert names_of(Item) == ["n"]
        assert vat.spawn(Item, 1).get() == 8
        assert vat.spawn(Item, 1, 2, more=3).get() == 6

    def test_an_init_var_has_no_default_that_could_be_changed(self):
        with pytest.raises(BehaviorError, match="Item.start is an InitVar"):

            class Item(Actor):
                start: InitVar[list] = []


class TestSharedState:
    @pytest.mark.parametrize(
        "value",
        [[], {}, set(), bytearray(), deque(), array("b"), Counter(), defaultdict(list), OrderedDict()],
        ids=lambda value: type(value).__name__,
    )
    def test_is_refused_unless_it_says_so(self, value):
        with pytest.raises(
            BehaviorError, match=r"Item\.items would be shared.*`items: \w+ = \.\.\.`.*ClassVar"
        ):
            type(Actor)("Item", (Actor,), {"items": value})

    @pytest.mark.parametrize("kind", [list, dict, set, deque, UserList, UserDict, ChainMap, MutableSequence])
    def test_is_refused_if_the_class_of_it_is_one_of_the_program(self, kind):
        with pytest.raises(BehaviorError, match=r"Item\.items would be shared.*`items: Own = \.\.\.`"):
            type(Actor)("Item", (Actor,), {"items": own(kind)})

    @pytest.mark.parametrize("kind", [list, deque, UserDict, MutableSequence])
    def test_of_such_a_class_is_a_field_with_an_annotation_and_each_actor_has_its_own(self, vat, kind):
        value = own(kind)

        class Item(Actor):
            items: object = value

            def which(self):
                return id(self.items)

        items = [vat.spawn(Item) for _ in range(2)]
        assert len({id(value), *(item.which() for item in items)}) == 3

    def test_is_refused_with_an_underscore_too(self):
        with pytest.raises(BehaviorError, match="Item._cache"):

            class Item(Actor):
                _cache = {}

    def test_is_refused_in_a_record_that_can_be_changed(self):
        @dataclasses.dataclass
        class Options:
            level: int = 0

        with pytest.raises(BehaviorError, match="Item.options"):

            class Item(Actor):
                options = Options()

    def test_is_refused_where_it_comes_from_another_parent(self):
        class Mixin:
            items: list = []

        with pytest.raises(BehaviorError, match="Mixin.items"):

            class Item(Mixin, Actor):
                pass

    def test_of_another_parent_may_be_a_field_here(self, vat):
        class Mixin:
            items: list = []

        class Item(Mixin, Actor):
            items: list = []

            def add(self):
                self.items.append(1)
                return self.items

        assert [vat.spawn(Item).add() for _ in range(2)] == [[1], [1]]

    def test_what_does_not_change_may_stand_there(self, vat):
        @dataclasses.dataclass(frozen=True)
        class Options:
            level: int = 3

        class Item(Actor, Generic[T]):
            __match_args__ = ("n",)
            sizes = (1, 2)
            limit = 10
            options = Options()
            n: int = 0

            def get(self):
                return self.sizes, self.limit, self.options.level

        assert vat.spawn(Item).get() == ((1, 2), 10, 3)


class TestProperties:
    def test_set_the_fields_that_they_are_made_of(self, vat):
        class Item(Actor):
            cents: int = 0

            @property
            def euros(self):
                return self.cents / 100

            @euros.setter
            def euros(self, value):
                self.cents = int(value * 100)

            @euros.deleter
            def euros(self):
                self.cents = 0

            def put(self, value, *, fail=False):
                self.euros = value
                if fail:
                    raise Boom
                return self.cents

            def clear(self):
                del self.euros
                return self.cents

        item = vat.spawn(Item)
        assert item.put(1.5) == 150
        with pytest.raises(Boom):
            item.put(7, fail=True)
        assert item.clear() == 0

    def test_without_a_setter_say_so(self, vat):
        class Item(Actor):
            n: int = 0

            @property
            def double(self):
                return 2 * self.n

            def put(self):
                self.double = 4

        with pytest.raises(AttributeError, match="no setter"):
            vat.spawn(Item).put()

    def test_of_a_parent_and_other_descriptors_work_too(self, vat):
        class Doubled:
            def __set__(self, instance, value):
                instance.n = 2 * value

            def __get__(self, instance, owner=None):
                return self if instance is None else instance.n

        class Parent(Actor):
            n: int = 0
            twice = Doubled()

        class Item(Parent):
            def put(self):
                self.twice = 4
                return self.n

        assert vat.spawn(Item).put() == 8

    def test_slots_keep_no_state_past_the_fields(self, vat):
        class Item(Actor):
            __slots__ = ("hidden",)
            n: int = 0

            def put(self):
                self.hidden = 4

        with pytest.raises(BehaviorError, match="no field"):
            vat.spawn(Item).put()


class Box(Actor, Generic[T]):
    value: T

    def get(self) -> T:
        return self.value

    def become_other(self, value):
        return self.become(Box[int](value), "changed")


class TestParameters:
    def test_are_left_out_by_spawn(self, vat):
        assert vat.spawn(Box[int], 1).get() == 1
        assert vat.spawn(Box[T], value=2).get() == 2
        assert vat.run(lambda: spawn(Box[Box[int]], 3).get()) == 3
        named = vat.run(lambda: spawn_named("mine", Box[str], "x"))
        assert named.get() == "x"
        assert "mine" in repr(named)

    def test_are_left_out_by_become(self, vat):
        box = vat.spawn(Box[int], 1)
        assert box.become_other(5) == "changed"
        assert box.get() == 5

    def test_are_left_out_by_environments(self):
        assert PersistenceEnv("test", Box[int]).labels() == ["test.Box"]
        assert PersistenceEnv({"box": Box[int]}, aliases={"crate": Box[str]}).aliases() == {"crate": "box"}
        vat, box = opened(Box[int], 4)
        assert box.get() == 4
        assert vat.replace_behavior(only=Box[int]).left == {"test.Box": 1}

    def test_of_what_is_no_class_of_actors_are_refused(self, vat):
        with pytest.raises(TypeError):
            vat.spawn(list[int])


class Settings(Actor):
    name: str
    level: int = field(init=False, default=3)
    marks: list = field(init=False, default_factory=list)
    kind: int | list = field(init=False, default=7)
    _: KW_ONLY
    speed: int = 1
    sum: int = field(init=False)

    def __post_init__(self):
        self.sum = self.level + self.speed

    def get(self):
        return self.name, self.level, self.marks, self.kind, self.speed, self.sum

    def change(self, *, fail=False):
        self.level += 1
        self.marks.append(self.level)
        if fail:
            raise Boom


class Child(Settings):
    depth: int = field(init=False, default=9)

    def all(self):
        return (*self.get(), self.depth)


class TestFieldsThatInitDoesNotTake:
    def test_have_their_defaults(self, vat):
        item = vat.spawn(Settings, "a", speed=5)
        assert item.get() == ("a", 3, [], 7, 5, 8)
        with pytest.raises(Boom):
            item.change(fail=True)
        item.change()
        assert item.get() == ("a", 4, [4], 7, 5, 8)
        with pytest.raises(TypeError):
            vat.spawn(Settings, "a", level=5)

    def test_have_them_in_a_subclass(self, vat):
        assert vat.spawn(Child, "a").all() == ("a", 3, [], 7, 1, 4, 9)

    @pytest.mark.parametrize("cls", [Settings, Child])
    def test_are_stored(self, cls):
        vat, item = opened(cls, "a")
        assert item.get() == ("a", 3, [], 7, 1, 4)
        item.change()
        assert item.get()[1] == 4
        vat.close()

    def test_have_them_where_the_class_has_its_own_init(self, vat):
        class Item(Actor):
            name: str
            marks: list = []
            level: int = field(init=False, default=3)
            kind: int | list = 5

            def __init__(self, name):
                self.name = f"{name}!"
                self.kind = [*self.marks, self.level]

            def get(self):
                return self.name, self.marks, self.level, self.kind

        assert vat.spawn(Item, "a").get() == ("a!", [], 3, [3])
        _, item = opened(Item, "a")
        assert item.get() == ("a!", [], 3, [3])

    def test_have_them_where_the_parent_is_a_dataclass(self, vat):
        @dataclasses.dataclass
        class Plain:
            level: int = field(init=False, default=3)

        class Item(Plain, Actor):
            n: int = 0

            def get(self):
                return self.level, self.n

        assert vat.spawn(Item, 1).get() == (3, 1)
        _, item = opened(Item, 1)
        assert item.get() == (3, 1)

    def test_have_none_if_they_say_so(self, vat):
        class Item(Actor):
            late: list = field(init=False)

            def get(self):
                return self.late

        with pytest.raises(AttributeError, match="late"):
            vat.spawn(Item).get()


class Keeper(Actor):
    held: Any = None

    def as_dict(self):
        return dataclasses.asdict(self)

    def copied(self):
        return copy.deepcopy(self.held)


class TestCopies:
    def test_of_a_ref_are_the_ref(self, vat):
        ref = vat.spawn(Keeper)
        assert copy.copy(ref) is ref
        assert copy.deepcopy({"a": [ref]})["a"][0] is ref
        assert copy.copy(ref.copied) == ref.copied
        assert copy.deepcopy(ref.copied) == ref.copied

    def test_of_fields_hold_the_same_refs(self, vat):
        inner = vat.spawn(Keeper)
        keeper = vat.spawn(Keeper, [inner, {"x": inner}])
        assert keeper.as_dict() == {"held": [inner, {"x": inner}]}
        assert keeper.copied()[0] is inner

    def test_of_a_persistable_id_are_the_same(self):
        _, keeper = opened(Keeper)
        name = persistable_id(keeper)
        assert copy.copy(name) is name
        assert copy.deepcopy([name])[0] is name


@pytest.mark.parametrize("value", [([],), (1, ({},)), (1, deque())], ids=repr)
def test_a_tuple_is_shared_state_if_what_is_in_it_can_be_changed(value):
    with pytest.raises(BehaviorError, match=r"Item\.kept would be shared by all actors"):

        class Item(Actor):
            kept = value


@pytest.mark.parametrize("value", [(), (1, ("two",)), frozenset({(1, deque)})], ids=repr)
def test_one_of_plain_values_may_be_shared(value):
    class Item(Actor):
        kept = value

    assert Item.kept is value


@pytest.mark.parametrize("slots", ["n", ("n",), ["n", "other"]])
def test_a_field_that_is_a_slot_too_is_refused(slots):
    with pytest.raises(BehaviorError, match=r"Item\.n can't be a field and a slot"):

        class Item(Actor):
            __slots__ = slots
            n: int


def test_empty_slots_do_no_harm():
    class Item(Actor):
        __slots__ = ()
        n: int = 5

        def get(self):
            return self.n

    assert opened(Item)[1].get() == 5
