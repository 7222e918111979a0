"""State that a behavior keeps in a variable of its constructor is in no portrait: refused, not lost (G8)."""

import pytest
from goblins import Actor, NotPortableError, PersistenceEnv, actor, methods, spawn
from support import cell


@actor
def hidden(bcom, value=0):
    def tick():
        nonlocal value
        value += 1
        return value

    return tick


@actor
def hidden_in_a_method(bcom, start=0):
    seen = start

    def tick():
        nonlocal seen
        seen = seen + 1
        return seen

    return methods(get=lambda: seen, tick=tick)


@actor
def hidden_deep(bcom):
    last = None

    def outer():
        def inner(new):
            nonlocal last
            last = new

        inner(1)

    return outer


@actor
def hidden_in_a_comprehension(bcom):
    last = None

    def tick(values):
        nonlocal last
        return [last := value for value in values]

    return tick


@actor
def hidden_by_deleting(bcom):
    thing = []

    def tick():
        nonlocal thing
        del thing

    return methods(tick=tick, get=lambda: thing)


@actor
def hidden_in_a_coroutine(bcom, value=0):
    async def tick():
        nonlocal value
        value += 1

    return tick


REFUSED = {
    "hidden.tick rebinds `value`": hidden,
    "hidden_in_a_method.tick rebinds `seen`": hidden_in_a_method,
    "hidden_deep.outer.inner rebinds `last`": hidden_deep,
    "hidden_in_a_comprehension.tick rebinds `last`": hidden_in_a_comprehension,
    "hidden_by_deleting.tick rebinds `thing`": hidden_by_deleting,
    "hidden_in_a_coroutine.tick rebinds `value`": hidden_in_a_coroutine,
}


@pytest.mark.parametrize(
    ("words", "constructor"), REFUSED.items(), ids=[c.__name__ for c in REFUSED.values()]
)
def test_such_an_actor_is_refused_when_it_is_to_be_stored(place, words, constructor):
    env = PersistenceEnv("test", constructor)
    with pytest.raises(NotPortableError, match=words) as caught:
        place.spawn(lambda: spawn(constructor), env=env)
    assert f"test.{constructor.__name__}" == caught.value.label
    assert "bcom" in str(caught.value)
    assert caught.value.path.startswith(constructor.__name__)


def test_the_turn_that_would_store_it_is_undone_and_the_vat_goes_on(place):
    env = PersistenceEnv("test", cell, hidden)
    vat, box = place.spawn(lambda: spawn(cell, "old"), env=env)
    with pytest.raises(NotPortableError, match="hidden.tick"):
        vat.run(lambda: box.put(spawn(hidden)))
    assert box.get() == "old"
    box.put("new")
    _, box = place.restart(vat, env=env)
    assert box.get() == "new"


def test_in_memory_it_may_do_so(vat):
    ticks = vat.spawn(hidden)
    assert [ticks(), ticks()] == [1, 2]


def test_so_may_an_actor_that_no_stored_one_refers_to(place):
    vat, _ = place.spawn(lambda: spawn(cell), env=PersistenceEnv("test", cell, hidden))
    ticks = vat.spawn(hidden)
    assert [ticks(), ticks()] == [1, 2]


@actor
def own_nonlocal(bcom, value=0):
    def tick():
        count = 0

        def helper():
            nonlocal count
            count += 1

        helper()
        helper()
        return bcom(own_nonlocal(bcom, value + count), value)

    return tick


@actor
def same_name_within(bcom, value=0):
    def read():
        return value

    def tick():
        value = 0

        def helper():
            nonlocal value
            value += 1

        helper()
        return value

    return methods(read=read, tick=tick)


@actor
def comprehension_in_the_constructor(bcom, items=(1, 2, 3)):
    last = None
    any((last := item) > 2 for item in items)
    total = [last := item for item in items]
    return lambda: (last, len(total))


@actor
def rebound_by_the_constructor_itself(bcom, value=0):
    value = value + 1
    double = value
    double *= 2
    return lambda: (value, double)


@actor
def loops_and_errors(bcom, value=0):
    def tick():
        other = None
        for other in range(3):  # noqa: B007
            pass
        try:
            raise ValueError(other)
        except ValueError as caught:
            return [str(caught) for _ in range(other)]

    return tick


def made_in_a_function():
    calls = 0

    @actor
    def counts_calls(bcom):
        def tick():
            nonlocal calls
            calls += 1
            return calls

        return tick

    return counts_calls


FINE = [
    own_nonlocal,
    same_name_within,
    comprehension_in_the_constructor,
    rebound_by_the_constructor_itself,
    loops_and_errors,
    made_in_a_function(),
]


@pytest.mark.parametrize("constructor", FINE, ids=[constructor.__name__ for constructor in FINE])
def test_what_hides_no_state_of_the_actor_is_not_refused(place, constructor):
    env = PersistenceEnv("test", constructor)
    vat, ref = place.spawn(lambda: spawn(constructor), env=env)
    _, again = place.restart(vat, env=env)
    assert again is not ref


def test_a_constructor_that_is_no_plain_function_is_looked_at_as_far_as_it_goes(place):
    import functools

    class Maker:
        __name__ = "maker"

        def __call__(self, bcom, value=0):
            return lambda: value

    def decorated(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    @actor
    @decorated
    def wrapped(bcom, value=0):
        def tick():
            nonlocal value
            value += 1

        return tick

    maker = actor(Maker())
    _, ref = place.spawn(lambda: spawn(maker), env=PersistenceEnv({"maker": maker}))
    assert ref() == 0
    with pytest.raises(NotPortableError, match=r"wrapped\.tick"):
        place.spawn(lambda: spawn(wrapped), env=PersistenceEnv("test", wrapped), part="other")


def test_a_class_of_actors_with_a_field_is_the_other_way(place):
    class Counter(Actor):
        value: int = 0

        def tick(self):
            self.value += 1
            return self.value

    env = PersistenceEnv("test", Counter)
    vat, ticks = place.spawn(lambda: spawn(Counter), env=env)
    assert ticks.tick() == 1
    _, ticks = place.restart(vat, env=env)
    assert ticks.tick() == 2
