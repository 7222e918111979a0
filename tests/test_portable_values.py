"""Values that can be stored come back equal and of the same types; all others are refused at once.

What can't be stored is an error in the turn that made it, which is undone: never a silent loss, and
never another type that looks alike (guarantee G8).
"""

import collections
import enum
import io
import math
import sys
import threading

import pytest
from goblins import (
    MemoryStore,
    NotPortableError,
    PersistenceEnv,
    Ref,
    Vat,
    actor,
    methods,
    promise_and_resolver,
    spawn,
    spawn_persistent_vat,
)
from hypothesis import example, given
from hypothesis import strategies as st
from support import ENV, cell, counter, failing_turn, must_not_run, run_child

SHARED = 3  # refs that a random value may hold


class RefAt:
    """Stands for a ref while values are being made up."""

    def __init__(self, index):
        self.index = index

    def __repr__(self):
        return f"RefAt({self.index})"


refs = st.builds(RefAt, st.integers(0, SHARED - 1))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.sampled_from(
        [sign * 2**power + off for power in (8, 16, 32, 63, 64) for sign in (1, -1) for off in (-1, 0, 1)]
    ),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
)
hashables = st.recursive(
    st.one_of(scalars, refs),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
    ),
    max_leaves=6,
)
portables = st.recursive(
    st.one_of(scalars, refs, hashables),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashables, inner, max_size=4),
        st.sets(hashables, max_size=4),
        st.frozensets(hashables, max_size=4),
    ),
    max_leaves=20,
)


def with_refs(value, refs):
    """The value with the given refs in place of those made up."""
    match value:
        case RefAt():
            return refs[value.index]
        case dict():
            return {with_refs(k, refs): with_refs(v, refs) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            return type(value)(with_refs(item, refs) for item in value)
        case _:
            return value


def same(one, two):
    """Equal, and of the same types all the way down, to the sign of a zero."""
    if type(one) is not type(two):
        return False
    match one:
        case Ref():
            return one is two
        case float():
            return math.copysign(1, one) == math.copysign(1, two) and (
                one == two or (one != one and two != two)
            )
        case list() | tuple():
            return len(one) == len(two) and all(map(same, one, two))
        case dict():
            return len(one) == len(two) and all(
                any(same(k, other) and same(v, w) for other, w in two.items()) for k, v in one.items()
            )
        case set() | frozenset():
            return len(one) == len(two) and all(any(same(x, y) for y in two) for x in one)
        case _:
            return one == two


def there_and_back(make_value):
    """Stores what `make_value(refs)` gives, opens the store again, and gives what is found, and the refs."""
    with MemoryStore() as store:
        vat, box, *refs = spawn_persistent_vat(
            ENV, lambda: (spawn(cell), *(spawn(counter, n) for n in range(SHARED))), store
        )
        box.put(make_value(refs))
        vat.close()
        vat, box, *refs = spawn_persistent_vat(ENV, must_not_run, store)
        return box.get(), refs


@given(portables)
@example(True)
@example([1, 1.0, True, 0, False, -0.0, 0.0])
@example({1: "int", "1": "str", b"1": "bytes", (1,): "tuple", frozenset({1}): "frozenset"})
@example(float("inf"))
@example("\x00\U0010ffff")
@example([[], (), {}, set(), frozenset(), "", b"", None])
def test_what_is_stored_comes_back_the_same(value):
    """POR-23"""
    found, refs = there_and_back(lambda refs: with_refs(value, refs))
    expected = with_refs(value, refs)
    assert same(found, expected), (found, expected)


@given(portables)
def test_a_value_that_came_back_can_be_stored_again(value):
    once, refs = there_and_back(lambda refs: with_refs(value, refs))
    plain = {id(ref): RefAt(index) for index, ref in enumerate(refs)}

    def without_refs(value):
        match value:
            case Ref():
                return plain[id(value)]
            case dict():
                return {without_refs(k): without_refs(v) for k, v in value.items()}
            case list() | tuple() | set() | frozenset():
                return type(value)(without_refs(item) for item in value)
            case _:
                return value

    template = without_refs(once)
    twice, refs = there_and_back(lambda refs: with_refs(template, refs))
    assert same(twice, with_refs(template, refs))


@pytest.mark.parametrize("value", [float("nan"), -float("nan"), [float("nan")]], ids=repr)
def test_not_a_number_comes_back_as_such(value):
    found, _ = there_and_back(lambda refs: value)
    found = found[0] if type(found) is list else found
    assert type(found) is float
    assert math.isnan(found)


def test_the_sign_of_zero_and_the_smallest_numbers_come_back():
    value = [-0.0, 5e-324, sys.float_info.max, -sys.float_info.min, 0.1]
    found, _ = there_and_back(lambda refs: value)
    assert same(found, value)


@pytest.mark.parametrize("bits", [62, 63, 64, 65, 127, 128, 1000, 100_000])
def test_whole_numbers_of_any_size_come_back(bits):
    value = [sign * (2**bits + off) for sign in (1, -1) for off in (-1, 0, 1)]
    found, _ = there_and_back(lambda refs: value)
    assert same(found, value)


def test_the_order_of_a_dict_is_kept():
    """A dict shows its order to everybody, so it is part of what it says."""
    value = dict.fromkeys(("zebra", "ant", 3, 1, 2, "", b""))
    found, _ = there_and_back(lambda refs: value)
    assert list(found) == list(value)


def test_large_values_come_back():
    value = {"text": "x" * 5_000_000, "bytes": bytes(5_000_000), "list": list(range(200_000))}
    found, _ = there_and_back(lambda refs: value)
    assert same(found["text"], value["text"])
    assert same(found["bytes"], value["bytes"])
    assert found["list"] == value["list"]


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"], ids=ascii)
def test_half_characters_come_back_or_are_refused(text):
    """Python lets them stand in a text (names of files may have them), UTF-8 does not."""
    try:
        found, _ = there_and_back(lambda refs: text)
    except NotPortableError:
        return
    assert found == text


def test_what_comes_back_is_not_shared_with_what_was_stored():
    value = [1, [2]]
    found, _ = there_and_back(lambda refs: value)
    assert found is not value
    found[1].append(3)
    assert value == [1, [2]]


# What can't be stored.


class Thing:
    def __repr__(self):
        return "a thing"


class Number(int):
    pass


class Colour(enum.IntEnum):
    RED = 1


Point = collections.namedtuple("Point", "x y")

NOT_PORTABLE = {
    "object": object(),
    "own class": Thing(),
    "class": Thing,
    "function": lambda: None,
    "builtin": print,
    "module": math,
    "file": io.StringIO(),
    "lock": threading.Lock(),
    "generator": (n for n in ()),
    "iterator": iter([1]),
    "view": memoryview(b"abc"),
    "ellipsis": ...,
    "exception": ValueError("x"),
    "dict view": {}.keys(),
}

# Taking these for their parents would be a silent loss.
SUBCLASSES = {
    "of int": Number(3),
    "named tuple": Point(1, 2),
    "ordered dict": collections.OrderedDict(a=1),
    "default dict": collections.defaultdict(list),
    "counter": collections.Counter("abc"),
    "of str": type("Name", (str,), {})("x"),
    "of list": type("Things", (list,), {})([1]),
    "of set": type("Bag", (set,), {})({1}),
    "of bytes": type("Blob", (bytes,), {})(b"x"),
    "of float": type("Weight", (float,), {})(1.5),
}


@pytest.fixture
def stored():
    with MemoryStore() as store:
        vat, box = spawn_persistent_vat(ENV, lambda: spawn(cell, "before"), store, name="bank")
        yield store, vat, box


@pytest.mark.parametrize(
    "value", [pytest.param(value, id=name) for name, value in (NOT_PORTABLE | SUBCLASSES).items()]
)
def test_other_values_are_refused_and_the_turn_is_undone(stored, value):
    """POR-24"""
    store, vat, box = stored
    other = vat.spawn(cell, "unstored")
    with failing_turn(vat, NotPortableError):
        other.put("changed")
        box.put([1, value])
    assert box.get() == "before"
    assert other.get() == "unstored"
    box.put("after")
    vat.close()
    _, box = spawn_persistent_vat(ENV, must_not_run, store)
    assert box.get() == "after"


def test_what_belongs_to_the_library_but_is_no_value_is_refused(stored):
    _, vat, box = stored
    _promise, resolver = vat.run(promise_and_resolver)
    for value in (vat, box.get, resolver, counter, ENV, Vat, methods(a=print)):
        with pytest.raises(NotPortableError):
            box.put(value)
    assert box.get() == "before"


def test_the_error_names_actor_and_path(stored):
    """Who reads it must find the value."""
    _, _, box = stored
    with pytest.raises(NotPortableError) as caught:
        box.put(Thing())
    error = caught.value
    assert isinstance(error, TypeError)
    assert error.label == "test.cell"
    assert type(error.slot) is int
    assert error.vat == "bank"
    assert error.path == "args.value"
    for part in ("cell", "bank", "args.value", "Thing"):
        assert part in str(error)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([0, Thing()], "args.value[1]"),
        ((0, 1, [2, Thing()]), "args.value[2][1]"),
        ({"file": Thing()}, "args.value.file"),
        ([0, 1, 2, {"file": Thing()}], "args.value[3].file"),
        ({"a": {"b": [Thing()]}}, "args.value.a.b[0]"),
    ],
    ids=str,
)
def test_the_path_leads_to_the_value(stored, value, path):
    _, _, box = stored
    with pytest.raises(NotPortableError) as caught:
        box.put(value)
    assert caught.value.path == path
    assert path in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        {Thing(): 1},
        {"not a name": Thing()},
        {3: Thing()},
        {("a", 1): Thing()},
        {Thing()},
        frozenset({(1, Thing())}),
        {"": Thing()},
    ],
    ids=str,
)
def test_the_path_says_as_much_as_it_can_about_keys_and_sets(stored, value):
    _, _, box = stored
    with pytest.raises(NotPortableError, match="Thing") as caught:
        box.put(value)
    assert caught.value.path.startswith("args.value")
    assert caught.value.path != "args.value"


def test_the_path_says_which_parameter_it_was():
    @actor
    def shelf(bcom, name, *items, owner=None, **more):
        return lambda *args, **kwargs: bcom(shelf(bcom, *args, **kwargs))

    env = PersistenceEnv("test", shelf)
    with MemoryStore() as store:
        _, ref = spawn_persistent_vat(env, lambda: spawn(shelf, "top"), store)
        cases = [
            ((Thing(),), {}, "args.name"),
            (("top", 0, 1, {"file": Thing()}), {}, "args.items[2].file"),
            (("top",), {"owner": Thing()}, "args.owner"),
            (("top",), {"extra": [Thing()]}, "args.more.extra[0]"),
        ]
        for args, kwargs, path in cases:
            with pytest.raises(NotPortableError) as caught:
                ref(*args, **kwargs)
            assert caught.value.path == path


def test_the_actor_that_is_named_is_the_one_that_holds_the_value(stored):
    """It became reachable from a root, and was fine before."""
    _, vat, box = stored
    with vat:
        inner = spawn(counter, Thing())
        middle = spawn(cell, [inner])
    with pytest.raises(NotPortableError) as caught:
        box.put(middle)
    assert caught.value.label == "test.counter"
    assert caught.value.path == "args.value"


def test_a_value_that_holds_itself_is_refused(stored):
    _, _, box = stored
    one, two = [], {}
    one.append(one)
    two["again"] = [two]
    for value in (one, two):
        with pytest.raises(NotPortableError):
            box.put(value)
    assert box.get() == "before"


def test_a_value_that_is_nested_too_deep_is_refused_and_never_ends_the_process():
    """In a child, since a nesting that is too deep for the stack would end the process."""
    child = run_child("deep_values.py")
    assert child.returncode == 0, child.stderr[-2000:]
    assert child.stdout.split() == ["done"]


def test_code_that_runs_while_a_value_is_stored_does_no_harm(stored):
    """Only plain types are stored, so hashing or comparing them runs no code of the user's."""

    class Nosy:
        def __eq__(self, other):
            raise AssertionError("compared")

        __hash__ = object.__hash__

        def __reduce_ex__(self, protocol):
            raise AssertionError("pickled")

    _, _, box = stored
    with pytest.raises(NotPortableError):
        box.put([Nosy(), {Nosy(): 1}])
