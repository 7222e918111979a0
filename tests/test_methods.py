"""`methods(...)`: a behavior that answers by name, and bound messages (`ref.name`)."""

import pytest
from goblins import Actor, GoblinsError, NoSuchMethodError, actor, methods, send, tell
from support import cell, counter


@actor
def account(bcom, balance=0):
    def deposit(amount, *, note=""):
        return bcom(account(bcom, balance + amount), (balance + amount, note))

    return methods(deposit=deposit, balance=lambda: balance)


def test_a_call_goes_to_the_function_of_that_name(vat):
    """LIB-05"""
    ada = vat.spawn(account)
    assert ada.deposit(10) == (10, "")
    assert ada.deposit(5, note="wages") == (15, "wages")
    assert ada.balance() == 15


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 8, 40])
@pytest.mark.parametrize("how", [lambda method, *args, **named: method(*args, **named), send, tell])
def test_a_message_may_have_any_number_of_arguments(vat, other_vat, count, how):
    came = []

    class Takes(Actor):
        def take(self, *args, **named):
            came.append((args, named))

    args, named = tuple(range(count)), {f"a{number}": number for number in range(count)}
    actors = [vat.spawn(Takes), other_vat.spawn(Takes)]
    for given in ({}, named):
        for taker in actors:
            how(taker.take, *args, **given)
            # Handled after what was sent before.
            send(taker.take).result(timeout=60)
            assert came == [(args, given), ((), {})]
            came.clear()

        def from_a_turn(taker, given=given):
            how(taker.take, *args, **given)

        vat.run(from_a_turn, actors[0])
        send(actors[0].take).result(timeout=60)
        assert came == [(args, given), ((), {})]
        came.clear()


def test_a_missing_method_is_an_error_that_names_those_that_exist(vat):
    ada = vat.spawn(account)
    with pytest.raises(NoSuchMethodError, match=r"(?s)withdraw.*deposit.*balance") as caught:
        ada.withdraw(1)
    assert isinstance(caught.value, AttributeError)
    assert isinstance(caught.value, GoblinsError)
    assert "account" in str(caught.value)


def test_a_missing_method_breaks_the_promise_of_a_send(vat):
    ada = vat.spawn(account)
    with pytest.raises(NoSuchMethodError, match="withdraw"):
        send(ada.withdraw, 1).result(timeout=30)


def test_a_behavior_of_methods_cannot_be_called_without_a_name(vat):
    ada = vat.spawn(account)
    with pytest.raises(NoSuchMethodError, match="deposit"):
        ada()
    with pytest.raises(NoSuchMethodError, match="deposit"):
        send(ada).result(timeout=30)


def test_a_function_has_no_methods(vat):
    ticks = vat.spawn(counter)
    with pytest.raises(NoSuchMethodError, match="tick"):
        ticks.tick()
    assert ticks() == 0


def test_a_function_as_behavior_does_not_give_its_attributes_as_methods(vat):
    def with_attribute(bcom):
        def behavior():
            return "called"

        behavior.secret = lambda: "leaked"
        return behavior

    ref = vat.spawn(with_attribute)
    with pytest.raises(NoSuchMethodError):
        ref.secret()


def test_the_methods_may_change_with_the_behavior(vat):
    def door(bcom):
        return methods(open=lambda: bcom(methods(close=lambda: "closed")))

    ref = vat.spawn(door)
    ref.open()
    assert ref.close() == "closed"
    with pytest.raises(NoSuchMethodError):
        ref.open()


def test_a_bound_message_can_be_kept_and_used_again_after_a_change(vat):
    box = vat.spawn(cell, 1)
    get, put = box.get, box.put
    put(2)
    assert get() == 2
    put(3)
    assert get() == 3


def test_a_bound_message_can_be_passed_on_like_a_function(vat):
    box = vat.spawn(cell, 1)
    user = vat.spawn(lambda bcom: lambda action, *args: action(*args))
    assert user(box.put, 7) is None
    assert user(box.get) == 7


def test_a_bound_message_shows_actor_and_name(vat):
    text = repr(vat.spawn(account).deposit)
    assert "account" in text
    assert "deposit" in text


@pytest.mark.parametrize(
    "name",
    ["name", "vat", "slot", "label", "send", "tell", "run", "result", "items", "self", "method", "args"],
)
def test_any_ordinary_name_can_be_a_method(vat, name):
    ref = vat.spawn(lambda bcom: methods(**{name: lambda *args: (name, *args)}))
    assert getattr(ref, name)(1) == (name, 1)
    assert send(getattr(ref, name), 2).result(timeout=30) == (name, 2)


def test_keywords_of_a_message_never_clash_with_those_of_the_library(vat):
    words = {"self": 1, "target": 2, "method": 3, "name": 4, "args": 5, "kwargs": 6, "ref": 7, "timeout": 8}
    seen = vat.spawn(cell)

    def keyworded(bcom):
        def take(**given):
            seen.put(given)
            return given

        return methods(take=take)

    def plain(bcom):
        return lambda **given: given

    ref, function = vat.spawn(keyworded), vat.spawn(plain)
    assert ref.take(**words) == words
    assert function(**words) == words
    assert send(ref.take, **words).result(timeout=30) == words
    seen.put(None)
    tell(ref.take, **words)
    vat.drain(timeout=30)
    assert seen.get() == words


def test_methods_must_be_callable():
    with pytest.raises(TypeError, match="price"):
        methods(price=3)


@pytest.mark.parametrize("name", ["_private", "__init__", "__getattr__"])
def test_names_with_an_underscore_in_front_are_refused(name):
    with pytest.raises(TypeError, match=name):
        methods(**{name: lambda: None})


def test_private_names_cannot_be_called_from_outside(vat):
    ref = vat.spawn(account)
    with pytest.raises(AttributeError):
        ref.__class_getitem__("x")
    with pytest.raises(AttributeError):
        ref._private()


def test_methods_takes_functions_by_name_only():
    with pytest.raises(TypeError):
        methods(lambda: None)


def test_wrong_arguments_are_the_functions_own_type_error(vat):
    ada = vat.spawn(account)
    with pytest.raises(TypeError, match="amount"):
        ada.deposit()
    with pytest.raises(TypeError, match="colour"):
        ada.deposit(1, colour="red")
    assert ada.balance() == 0


class TestExtending:
    """LIB-05"""

    def test_names_that_are_not_there_are_those_of_the_base(self, vat):
        def base(bcom):
            return methods(name=lambda: "base", other=lambda n: n * 2)

        def extended(bcom):
            return methods(name=lambda: "extended", extends=base(bcom))

        ref = vat.spawn(extended)
        assert (ref.name(), ref.other(21)) == ("extended", 42)
        with pytest.raises(AttributeError, match="name, name, other"):
            ref.missing()

    def test_a_base_with_a_portrait_is_fine_and_its_bcom_works(self, vat):
        @actor
        def base(bcom, value):
            return methods(get=lambda: value, put=lambda new: bcom(base(bcom, new)))

        ref = vat.spawn(lambda bcom: methods(extra=lambda: "extra", extends=base(bcom, 1)))
        assert (ref.extra(), ref.get()) == ("extra", 1)
        ref.put(5)
        assert ref.get() == 5

    def test_the_base_may_be_an_actor_near_or_far(self, vat, other_vat):
        box, far = vat.spawn(cell, "near"), other_vat.spawn(cell, "far")
        near = vat.spawn(lambda bcom: methods(extra=lambda: "extra", extends=box))
        assert (near.extra(), near.get()) == ("extra", "near")
        away = vat.spawn(lambda bcom: methods(extends=far))
        assert send(away.get).result(30) == "far"

    def test_or_a_function_that_gets_the_name(self, vat):
        ref = vat.spawn(lambda bcom: methods(extends=lambda name, *args, **kwargs: (name, args, kwargs)))
        assert ref.anything(1, k=2) == ("anything", (1,), {"k": 2})

    @pytest.mark.parametrize("base", [42, "text", []], ids=repr)
    def test_anything_else_is_an_error(self, base):
        with pytest.raises(TypeError, match="extends"):
            methods(extends=base)
