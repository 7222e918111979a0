"""Plain fields are undone and stored wherever the interpreter keeps them: in a dict, or without one.

CPython up to 3.12 makes a dict when somebody asks for it, or when a class has many fields.
"""

import functools

import pytest
from goblins import Actor, MemoryStore, PersistenceEnv, Vat, lru, spawn, spawn_persistent_vat
from support import Boom


class Point(Actor):
    x: int = 0
    y: int = 0
    label: str | None = None

    def move(self, by: int) -> int:
        self.x += by
        self.y -= by
        return self.x

    def rename(self, label):
        self.label = label

    def fail(self, by: int):
        self.move(by)
        self.label = "failed"
        raise Boom

    def fail_and_look(self, by: int):
        self.move(by)
        assert vars(self)["x"] == self.x
        self.y = 7
        raise Boom

    def all(self):
        return self.x, self.y, self.label

    def shown(self):
        return dict(vars(self))

    @functools.cached_property
    def length(self) -> int:
        return abs(self.x) + abs(self.y)

    def measured(self):
        return self.length


Wide = type(
    "Wide",
    (Actor,),
    {
        "__module__": __name__,
        "__annotations__": {f"field{number}": int for number in range(60)},
        **{f"field{number}": number for number in range(60)},
        "put": lambda self, number, value: setattr(self, f"field{number}", value),
        "get": lambda self, number: getattr(self, f"field{number}"),
        "fail": lambda self, number: (setattr(self, f"field{number}", -1), [][0]),
    },
)


class Unordered(Actor):
    """Each instance gets its fields in another order."""

    first: int
    second: int
    third: int = 3

    def __init__(self, backwards: bool, fails: bool = False) -> None:
        for name in ("second", "first") if backwards else ("first", "second"):
            setattr(self, name, len(name))
        if fails:
            raise Boom

    def add(self, name: str, by: int, fails: bool = False) -> None:
        name = "".join(list(name))
        setattr(self, name, getattr(self, name) + by)
        if fails:
            raise Boom

    def all(self):
        return self.first, self.second, self.third


class Mixed(Actor):
    count: int = 0
    what: object = None

    def put(self, what):
        self.count += 1
        self.what = what

    def grow(self, fails: bool = False):
        self.count += 1
        self.what.append(self.count)
        if fails:
            raise Boom

    def all(self):
        return self.count, self.what


ENV = PersistenceEnv("without a dict", Point, Wide, Unordered, Mixed)


@pytest.mark.parametrize("persistent", [False, True])
def test_a_turn_that_fails_changes_no_field(persistent):
    if persistent:
        vat, point = spawn_persistent_vat(ENV, lambda: spawn(Point), MemoryStore())
    else:
        vat = Vat()
        point = vat.spawn(Point)
    for number in range(1, 4):
        assert point.move(1) == number
        for method in (point.fail, point.fail_and_look, point.fail):
            with pytest.raises(Boom):
                method(5)
            assert point.all() == (number, -number, None)
    assert point.shown() == {"x": 3, "y": -3, "label": None}
    with pytest.raises(Boom):
        point.fail(5)
    assert point.shown() == {"x": 3, "y": -3, "label": None}
    vat.close()


def test_what_a_class_computes_of_its_fields_goes_when_they_change():
    vat = Vat()
    point = vat.spawn(Point)
    point.move(2)
    assert point.measured() == 4
    point.move(1)
    assert point.measured() == 6
    with pytest.raises(Boom):
        point.fail(1)
    assert point.measured() == 6
    vat.close()


def test_changes_are_stored_and_read_again():
    with MemoryStore() as store:
        vat, point, wide = spawn_persistent_vat(ENV, lambda: [spawn(Point), spawn(Wide)], store)
        point.move(4)
        point.rename("p")
        wide.put(59, "last")
        with pytest.raises(Boom):
            point.fail(1)
        vat.close()
        vat, point, wide = spawn_persistent_vat(ENV, lambda: None, store, sleep=lru(max_actors=0))
        for _ in range(3):
            assert point.all() == (4, -4, "p")
            with pytest.raises(Boom):
                point.fail(1)
            assert wide.get(59) == "last"
        assert point.move(1) == 5
        assert point.all() == (5, -5, "p")
        vat.close()


def test_an_actor_may_have_more_fields_than_the_interpreter_keeps_without_a_dict():
    vat = Vat()
    wides = [vat.spawn(Wide) for _ in range(3)]
    for wide in wides:
        for number in (0, 31, 59):
            wide.put(number, 1000 + number)
            with pytest.raises(IndexError):
                wide.fail(number)
            assert wide.get(number) == 1000 + number
        assert wide.get(1) == 1
    vat.close()


def test_fields_may_be_set_in_any_order_and_by_names_that_are_other_objects():
    vat = Vat()
    for backwards in (True, False, True):
        for _ in range(2):
            with pytest.raises(Boom):
                vat.spawn(Unordered, backwards, fails=True)
        one = vat.spawn(Unordered, backwards)
        assert one.all() == (5, 6, 3)
        for name, expected in (("first", (6, 6, 3)), ("third", (6, 6, 4)), ("second", (6, 7, 4))):
            with pytest.raises(Boom):
                one.add(name, 1, fails=True)
            one.add(name, 1)
            assert one.all() == expected
    vat.close()


def test_a_field_may_hold_a_container_after_a_plain_value_and_again_a_plain_one():
    with MemoryStore() as store:
        vat, mixed = spawn_persistent_vat(ENV, lambda: spawn(Mixed), store)
        mixed.put(5)
        mixed.put([])
        mixed.grow()
        with pytest.raises(Boom):
            mixed.grow(fails=True)
        assert mixed.all() == (3, [3])
        mixed.put("text")
        with pytest.raises(AttributeError):
            mixed.grow()
        assert mixed.all() == (4, "text")
        vat.close()
        vat, mixed = spawn_persistent_vat(ENV, lambda: None, store)
        assert mixed.all() == (4, "text")
        vat.close()


def test_what_a_class_sets_when_an_instance_is_made_stays():
    class Made(Actor):
        value: int = 0
        other: int = 0

        def __new__(cls, *_args, **_kwargs):
            self = super().__new__(cls)
            self.other = 7
            return self

        def __init__(self) -> None:
            self.value = 1

        def all(self):
            return self.value, vars(self)["other"]

    vat = Vat()
    assert vat.spawn(Made).all() == (1, 7)
    vat.close()


def test_a_setter_that_takes_the_place_of_a_field_is_not_called_to_undo():
    class Changing(Actor):
        value: int = 0

        def change(self):
            self.value = 1
            type(self).value = property(lambda self: 5, lambda self, value: calls.append(value))
            raise Boom

        def kept(self):
            return vars(self)["value"]

    calls = []
    vat = Vat()
    one = vat.spawn(Changing)
    with pytest.raises(Boom):
        one.change()
    assert one.kept() == 0
    assert calls == []
    vat.close()
