"""``ref.name`` is a message, and ``self`` stays in its actor: what takes them for values is told so."""

import asyncio
import copy
import inspect
import math
import operator
import pickle
import pydoc
import rlcompleter
import sys
from typing import Any

import goblins
import pytest
from goblins import (
    Actor,
    BehaviorError,
    MemoryStore,
    PersistenceEnv,
    actor,
    methods,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)
from support import cell, collect


class Account(Actor):
    """Somebody's money."""

    owner: str = "Ada"
    balance: int = 0
    active: bool = False
    other: Any = None

    def deposit(self, amount: int, *, note: str = "") -> int:
        """Adds an amount, and gives the new balance."""
        self.balance += amount
        return self.balance

    def is_rich(self):
        return self.balance > 100

    def __call__(self, question: str) -> str:
        return question


class Leaky(Actor):
    """Gives itself away in many ways."""

    held: Any = None
    items: list = []

    def do(self, how, *args):
        return how(self, *args)

    async def later(self, how):
        return how(self)

    def take(self, *args, **kwargs):
        return len(args) + len(kwargs)


@pytest.fixture
def account(vat):
    return vat.spawn(Account, "Ada", 5)


USES = {
    "truth": bool,
    "not": operator.not_,
    "and": lambda message: message and 1,
    "equal to a number": lambda message: message == 0,
    "a number equal to it": lambda message: 0 == message,  # noqa: SIM300
    "unequal": lambda message: message != 5,
    "equal to None": lambda message: message == None,  # noqa: E711
    "equal to a text": lambda message: message == "x",
    "in a list of values": lambda message: message in [1, 2],
    "less": lambda message: message < 3,
    "at least": lambda message: 3 <= message,  # noqa: SIM300
    "sorted": lambda message: sorted([message, message]),
    "largest": lambda message: max(message, 3),
    "f-string": lambda message: f"{message}",
    "f-string with a format": lambda message: f"{message:>5}",
    "format": "{}".format,
    "iteration": list,
    "iter": iter,
    "unpacking": lambda message: [*message],
    "index": lambda message: message[0],
    "slice": lambda message: message[1:],
    "set an item": lambda message: operator.setitem(message, 0, 1),
    "delete an item": lambda message: operator.delitem(message, 0),
    "len": len,
    "in": lambda message: 1 in message,
    "add": lambda message: message + 1,
    "added to": lambda message: 1 + message,
    "added to a text": lambda message: "x" + message,
    "added to a list": lambda message: [1] + message,  # noqa: RUF005
    "in place": lambda message: operator.iadd(message, 1),
    "sum": lambda message: sum([message]),
    "subtract": lambda message: 10 - message,
    "multiply": lambda message: message * 2,
    "divide": lambda message: message / 2,
    "divide to an int": lambda message: message // 2,
    "remainder": lambda message: message % 2,
    "divmod": lambda message: divmod(message, 2),
    "power": lambda message: message**2,
    "power of two": lambda message: 2**message,
    "shift": lambda message: message << 1,
    "or": lambda message: message | 1,
    "xor": lambda message: message ^ 1,
    "bits": lambda message: message & 1,
    "matrices": lambda message: message @ message,
    "negative": operator.neg,
    "positive": operator.pos,
    "invert": operator.invert,
    "abs": abs,
    "int": int,
    "float": float,
    "round": math.floor,
    "range": range,
    "with": lambda message: message.__enter__(),
}


class TestMessagesAreNoValues:
    @pytest.mark.parametrize("use", USES.values(), ids=USES)
    def test_a_use_of_a_field_names_it_and_says_how_to_ask(self, account, use):
        with pytest.raises(TypeError) as caught:
            use(account.balance)
        text = str(caught.value)
        assert "ref.balance is a message to Account#0" in text
        assert "Give Account a method that returns self.balance" in text

    def test_a_with_block_is_an_error(self, account):
        async def enter():
            async with account.balance:
                pass

        with pytest.raises(TypeError, match="used in `with`"), account.balance:
            pass
        with pytest.raises(TypeError, match="async with"):
            asyncio.run(enter())

    def test_awaiting_one_is_an_error(self, account):
        async def wait():
            await account.balance

        with pytest.raises(TypeError, match=r"can't be awaited: ref\.balance"):
            asyncio.run(wait())

    def test_a_method_that_was_not_called_is_told_from_a_field(self, account):
        with pytest.raises(TypeError, match=r"not yet its answer. Call it, as in ref\.is_rich\(\.\.\.\)"):
            bool(account.is_rich)

    def test_an_unknown_name_and_a_functional_actor_get_a_hint(self, vat, account):
        with pytest.raises(TypeError, match=r"ref\.nonsense is a message to Account#0"):
            bool(account.nonsense)
        ref = vat.spawn(cell, 1)
        with pytest.raises(TypeError, match=r"Call it, as in ref\.get"):
            bool(ref.get)
        with pytest.raises(TypeError, match=r"ref\.value is a message to cell"):
            bool(ref.value)

    def test_one_to_a_promise_says_that_it_is_sent(self, account):
        promise = send(account.deposit, 1)
        for use in (bool, lambda message: message == 6, lambda message: f"{message}"):
            with pytest.raises(TypeError, match=r"promise\.balance is a message .*send\(promise\.balance"):
                use(promise.balance)

    def test_one_to_an_actor_that_is_not_in_memory_is_told_as_well(self):
        store, env = MemoryStore(), PersistenceEnv("test", Account)
        spawn_persistent_vat(env, lambda: spawn(Account), store)[0].close()
        _, account = spawn_persistent_vat(env, lambda: spawn(Account), store)
        with pytest.raises(TypeError, match=r"returns self\.balance"):
            bool(account.balance)

    def test_attributes_of_a_field_are_errors(self, account):
        with pytest.raises(AttributeError, match=r'no attribute "upper": ref\.owner is a message'):
            account.owner.upper()
        with pytest.raises(AttributeError, match=r'no attribute "x": ref\.other is a message'):
            account.other.x = 5
        with pytest.raises(AttributeError, match=r'no attribute "x": ref\.other is a message'):
            del account.other.x

    def test_they_can_be_compared_and_kept(self, vat, account):
        other = vat.spawn(Account)
        assert account.deposit == account.deposit
        assert account.deposit != account.is_rich
        assert account.deposit != other.deposit
        assert (account.deposit != account.deposit) is False
        assert len({account.deposit, account.deposit, other.deposit}) == 2
        assert {"deposit": 1, account.deposit: 2}["deposit"] == 1

    def test_they_may_stand_among_other_functions(self, account):
        def other():
            pass

        callbacks = [other, account.deposit, print]
        callbacks.remove(account.deposit)
        assert callbacks == [other, print]
        assert account.deposit != other

    def test_their_text_is_for_logs(self, account):
        assert repr(account.deposit) == str(account.deposit) == f"{account.deposit!r}"
        assert "deposit" in repr(account.deposit)

    def test_they_are_no_containers_to_code_that_asks(self, account):
        for name in ("__len__", "__iter__", "__getitem__", "__add__", "__bool__", "__await__"):
            assert not hasattr(account.deposit, name)


class TestRefsHaveNoFields:
    def test_an_assignment_says_so(self, account):
        with pytest.raises(
            AttributeError, match=r'a Ref has no fields, so "balance" of Account#0.*give Account'
        ):
            account.balance = 5
        with pytest.raises(AttributeError, match='"_hidden"'):
            account._hidden = 5
        with pytest.raises(AttributeError, match="a Ref has no fields"):
            del account.balance
        with pytest.raises(TypeError, match="arithmetic"):
            account.balance += 1

    def test_nor_have_promises(self, account):
        promise = send(account.deposit, 1)
        with pytest.raises(AttributeError, match='a promise has no fields, so "balance"'):
            promise.balance = 5
        with pytest.raises(AttributeError, match="a promise has no fields"):
            del promise.balance

    def test_truth_of_a_ref_stays(self, account):
        assert account
        assert account == account
        assert account != 5


WAYS_OUT = {
    "returned": lambda self: self,
    "in a list": lambda self: [self],
    "in a tuple in a dict": lambda self: {"a": (1, self)},
    "in a set": lambda self: {self},
    "after many others": lambda self: [*range(500), self],
    "as an argument": lambda self: self.ref.take(self),
    "as a keyword": lambda self: self.ref.take(x=self),
    "in an argument": lambda self: self.ref.take([1, {"a": self}]),
    "sent": lambda self: send(self.ref.take, self),
    "told": lambda self: tell(self.ref.take, [self]),
    "to a new actor": lambda self: spawn(Leaky, self),
    "to a new function": lambda self: spawn(cell, (self,)),
    "in a field": lambda self: setattr(self, "held", self),
    "in a list in a field": lambda self: setattr(self, "held", [1, [self]]),
    "put into a field": lambda self: self.items.append(self),
    "with another behavior": lambda self: self.become(Leaky(), self),
    "in a promise": lambda self: promise_and_resolver()[1].fulfil(self),
    "told before": lambda self: promise_and_resolver()[1].update([self]),
}


class TestSelfStaysInItsActor:
    @pytest.mark.parametrize("way", WAYS_OUT.values(), ids=WAYS_OUT)
    def test_its_way_out_is_refused(self, vat, way):
        leaky = vat.spawn(Leaky)
        with pytest.raises(BehaviorError, match=r"`self` of Leaky#0 of vat .* Give self\.ref"):
            leaky.do(way)
        assert leaky.do(lambda self: (self.held, self.items)) == (None, [])

    def test_an_async_method_does_not_return_it_either(self, vat):
        leaky = vat.spawn(Leaky)
        for way in (lambda self: self, lambda self: [self]):
            with pytest.raises(BehaviorError, match=r"self\.ref"):
                send(leaky.later, way).result(5)

    def test_another_actor_is_refused_it_as_well(self, vat):
        one, two = vat.spawn(Leaky), vat.spawn(Leaky)
        with pytest.raises(BehaviorError, match=r"as an argument"):
            one.do(lambda self: two.take(self))

    def test_its_ref_goes_everywhere(self, vat):
        leaky = vat.spawn(Leaky)
        assert leaky.do(lambda self: [self.ref]) == [leaky]
        assert leaky.do(lambda self: self.ref.take(self.ref, [self.ref])) == 2
        leaky.do(lambda self: setattr(self, "held", self.ref))

    def test_an_instance_that_is_no_actor_may_be_handed_on(self, vat):
        leaky = vat.spawn(Leaky)
        assert leaky.do(lambda self: self.ref.take(Leaky(held=5))) == 1
        assert leaky.do(lambda self: self.become(Leaky(held=5), "done")) == "done"
        assert leaky.do(lambda self: self.held) == 5


class TestRefsAreRights:
    def test_copies_are_the_same(self, account):
        promise = send(account.deposit, 1)
        for one in (account, promise):
            assert copy.copy(one) is one
            assert copy.deepcopy([one])[0] is one

    def test_pickle_is_told_what_to_do(self, account):
        for one, kind in (
            (account, "Ref"),
            (send(account.deposit, 1), "Promise"),
            (account.deposit, "BoundMessage"),
        ):
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                with pytest.raises(TypeError, match=f"a {kind} can't be pickled.*persistable_id"):
                    pickle.dumps({"a": one}, protocol)


@actor
def teller(bcom, base):
    def hello(name: str) -> str:
        """Greets."""
        return f"hello {name}"

    return methods(extends=base, hello=hello)


class TestHelp:
    def test_signatures_are_those_of_the_methods(self, vat, account):
        assert str(inspect.signature(account.deposit)) == "(amount: int, *, note: str = '') -> int"
        assert str(inspect.signature(account)) == "(question: str) -> str"
        assert str(inspect.signature(vat.spawn(teller, account).hello)) == "(name: str) -> str"
        assert str(inspect.signature(vat.spawn(teller, account).deposit)).startswith("(amount")
        function = vat.spawn(lambda bcom: lambda a, b=1: a)
        assert str(inspect.signature(function)) == "(a, b=1)"

    def test_unknown_methods_have_none(self, account):
        if sys.version_info >= (3, 13):
            # It takes any arguments, as far as inspect can see: the type of all messages can be called.
            assert str(inspect.signature(account.nonsense)) == "(*args, **kwargs)"
        else:
            with pytest.raises(ValueError, match="nonsense"):
                inspect.signature(account.nonsense)
        assert not hasattr(account.nonsense, "__signature__")

    def test_messages_to_promises_take_anything(self, account):
        promise = send(account.deposit, 1)
        assert str(inspect.signature(promise.anything)) == "(*args, **kwargs)"

    def test_dir_shows_the_messages(self, vat, account):
        assert {"deposit", "is_rich"} <= set(dir(account))
        assert not {"balance", "owner"} & set(dir(account))
        assert {"hello", "deposit", "is_rich"} <= set(dir(vat.spawn(teller, account)))
        assert {"get", "put", "hello"} <= set(dir(vat.spawn(teller, vat.run(methods_of_cell))))

    def test_completion_shows_them(self, account):
        completer = rlcompleter.Completer({"account": account})
        assert "account.deposit(" in completer.attr_matches("account.de")

    def test_help_shows_the_docstring(self, account):
        assert account.deposit.__doc__ == "Adds an amount, and gives the new balance."
        assert account.deposit.__name__ == "deposit"
        assert "Adds an amount" in pydoc.render_doc(account.deposit)
        assert "class BoundMessage" in pydoc.render_doc(account.is_rich)
        assert "ref.method" in goblins._goblins.BoundMessage.__doc__

    def test_all_of_it_works_for_an_actor_that_is_not_in_memory(self):
        store, env = MemoryStore(), PersistenceEnv("test", Account)
        spawn_persistent_vat(env, lambda: spawn(Account), store)[0].close()
        vat, account = spawn_persistent_vat(env, lambda: spawn(Account), store)
        assert "deposit" in dir(account)
        assert str(inspect.signature(account.deposit)).startswith("(amount: int")
        assert account.deposit.__doc__.startswith("Adds")
        assert vat.awake == 0

    def test_it_does_no_harm_when_the_store_is_closed_or_the_actor_gone(self):
        store, env = MemoryStore(), PersistenceEnv("test", Account, cell)
        vat, account = spawn_persistent_vat(env, lambda: spawn(Account), store)
        store.close()
        assert "deposit" in dir(account)
        vat, account = spawn_persistent_vat(env, lambda: spawn(Account), store := MemoryStore())
        vat.close()
        vat, account = spawn_persistent_vat(env, lambda: spawn(Account), store)
        store.close()
        assert isinstance(dir(account), list)
        assert str(inspect.signature(account.deposit))
        kept = []
        with pytest.raises(ZeroDivisionError):
            goblins.Vat().run(lambda: (kept.append(spawn(Account)), 1 / 0))
        collect()
        assert isinstance(dir(kept[0]), list)


def methods_of_cell():
    return spawn(cell, 1)


class TestListeners:
    def test_messages_may_be_handlers(self, vat):
        account = vat.spawn(Account)

        def listen():
            promise, resolver = promise_and_resolver()
            resolver.fulfil(5)
            return on(promise, account.deposit, catch=account.deposit)

        assert vat.run(listen).result(5) == 5
