"""What the original does with messages and promises, as far as no other test shows it.

See docs/conformance.md.
"""

import pytest
from goblins import ManualVat, Resolver, methods, on, promise_and_resolver, send, spawn, tell
from support import Boom, caller, cell, counter, echo, failing


@pytest.fixture
def vats():
    """Two vats that are run by hand: the test says who goes on."""
    vats = ManualVat("home"), ManualVat("abroad")
    yield vats
    for vat in vats:
        vat.close()


class TestSending:
    def test_nothing_runs_before_the_turn_ends_and_each_send_has_a_promise_of_its_own(self, vat):
        """ASY-01"""
        ticks = vat.spawn(counter)
        with vat:
            answers = [send(ticks) for _ in range(3)]
            assert len(set(answers)) == 3
            assert ticks() == 0
        assert [answer.result(timeout=30) for answer in answers] == [1, 2, 3]

    def test_messages_to_actors_and_to_settled_promises_keep_their_order(self, vat):
        """ASY-04"""
        seen = []
        notes = vat.spawn(lambda bcom: seen.append)
        promise, resolver = vat.run(promise_and_resolver)
        resolver.fulfil(notes)
        with vat:
            for n in range(20):
                tell(promise if n % 2 else notes, n)
        assert seen == list(range(20))


class TestResolvers:
    def test_a_resolver_is_an_object_and_works_from_each_place(self, vat, other_vat):
        """ASY-08, ASY-09: the original has an actor, to be called or sent to."""
        for run in (lambda use, value: use(value), vat.run, other_vat.run):
            promise, resolver = vat.run(promise_and_resolver)
            assert type(resolver) is Resolver
            run(resolver.fulfil, "value")
            assert promise.result(timeout=30) == "value"
            error = Boom()
            promise, resolver = vat.run(promise_and_resolver)
            run(resolver.break_, error)
            with pytest.raises(Boom) as caught:
                promise.result(timeout=30)
            assert caught.value is error

    def test_the_first_settlement_wins_also_between_vats(self, vats):
        """ASY-10"""
        home, abroad = vats
        promise, resolver = promise_and_resolver()
        first, second = home.spawn(caller), abroad.spawn(caller)
        tell(first, resolver.fulfil, "home")
        tell(second, resolver.fulfil, "abroad")
        abroad.drain()
        home.drain()
        assert promise.result(timeout=0) == "abroad"

    @pytest.mark.parametrize("where", ["vat", "other_vat"])
    def test_a_promise_for_an_actor_is_as_good_as_the_actor(self, vat, where, request):
        """ASY-13"""
        promise, resolver = vat.run(promise_and_resolver)
        box = request.getfixturevalue(where).spawn(cell)
        resolver.fulfil(box)
        assert promise.result(timeout=30) is box
        assert send(promise.put, "value").result(timeout=30) is None
        assert vat.run(lambda: on(promise, lambda ref: ref is box)).result(timeout=30)
        assert send(box.get).result(timeout=30) == "value"

    @pytest.mark.parametrize("value", [None, 0, "text", [1, 2], {"a": 1}, print], ids=repr)
    def test_a_plain_value_is_kept_as_it_is(self, vat, value):
        """ASY-14"""
        promise, resolver = vat.run(promise_and_resolver)
        vat.run(resolver.fulfil, value)
        assert promise.result(timeout=30) is value


class TestStates:
    def test_a_promise_says_how_far_it_has_come(self, vat):
        """ASY-12, ASY-18"""
        (one, resolve_one), (two, resolve_two) = (vat.run(promise_and_resolver) for _ in range(2))
        assert repr(one) == "<Promise pending>"
        resolve_one.fulfil(two)
        assert repr(one) == "<Promise waiting for another promise>"
        resolve_two.fulfil(1)
        assert repr(one) == repr(two) == "<Promise fulfilled>"
        three, resolve_three = vat.run(promise_and_resolver)
        resolve_three.break_(Boom())
        assert repr(three) == "<Promise broken>"
        with pytest.raises(Boom):
            three.result(timeout=0)


class TestListeners:
    def test_a_pair_of_methods_hears_of_both_ends(self, vat):
        """ASY-29: what `listen-to` is in the original."""
        heard = []

        def listener(bcom):
            return methods(
                fulfil=lambda value: heard.append(("fulfil", value)),
                break_=lambda problem: heard.append(("break", problem)),
            )

        listens = vat.spawn(listener)
        good, bad = (vat.run(promise_and_resolver) for _ in range(2))
        with vat:
            for promise, _ in (good, bad):
                on(promise, listens.fulfil, catch=listens.break_)
        error = Boom()
        good[1].fulfil("value")
        bad[1].break_(error)
        vat.drain(timeout=30)
        assert heard == [("fulfil", "value"), ("break", error)]

    @pytest.mark.parametrize("settle_in", ["outside", "abroad"])
    def test_one_that_comes_while_the_news_is_on_its_way_waits_its_turn(self, vats, settle_in):
        """ASY-27"""
        home, abroad = vats
        promise, resolver = promise_and_resolver()
        run = home.spawn(caller)
        heard = []
        home.run(on, promise, lambda _: heard.append("first"))
        tell(run, on, promise, lambda _: heard.append("second"))
        if settle_in == "outside":
            resolver.fulfil(None)
        else:
            abroad.run(resolver.fulfil, None)
        home.run(on, promise, lambda _: heard.append("third"))
        home.drain()
        assert heard == ["first", "third", "second"]

    @pytest.mark.parametrize(
        ("handlers", "order"),
        [({}, [1, 2, 3]), ({"fulfilled": lambda _: None}, [1, 3, 2])],
        ids=["alone", "after its handler"],
    )
    def test_finally_is_told_in_its_turn_or_one_turn_after_the_handler_beside_it(self, vat, handlers, order):
        """ASY-21, ASY-27"""
        promise, resolver = vat.run(promise_and_resolver)
        heard = []
        with vat:
            on(promise, lambda _: heard.append(1))
            on(promise, finally_=lambda: heard.append(2), **handlers)
            on(promise, lambda _: heard.append(3))
        resolver.fulfil(None)
        vat.drain(timeout=30)
        assert heard == order

    def test_a_vat_hears_of_a_promise_once_whatever_it_waits_for(self, vats):
        """ASY-30"""
        home, abroad = vats
        promise, resolver = promise_and_resolver()
        heard = []
        with home:
            for n in range(3):
                on(promise, lambda _, n=n: heard.append(n))
        abroad.run(resolver.fulfil, None)
        assert home.backlog == 1
        assert home.step()
        assert heard == [0, 1, 2]

    def test_what_waits_in_a_vat_that_closes_before_it_hears_is_broken(self, vats):
        """ASY-07, ASY-30, LIM-27"""
        home, abroad = vats
        promise, resolver = promise_and_resolver()
        with home:
            derived = [on(promise), on(promise, finally_=print), send(promise, "message")]
            chained, resolve_chained = promise_and_resolver()
            resolve_chained.fulfil(promise)
        abroad.run(resolver.fulfil, abroad.spawn(echo))
        home.close()
        for waiting in derived:
            with pytest.raises(RuntimeError, match="home is closed"):
                waiting.result(timeout=0)
        assert chained.result(timeout=0) is promise.result(timeout=0)


class TestPipelining:
    @pytest.mark.parametrize("settle_in", ["outside", "abroad"])
    def test_a_message_overtakes_none_that_waits_though_the_promise_has_settled(self, vats, settle_in):
        """ASY-04, ASY-28"""
        home, abroad = vats
        promise, resolver = promise_and_resolver()
        seen = []
        notes = abroad.spawn(lambda bcom: seen.append)
        run = home.spawn(caller)
        with home:
            tell(promise, "first")
        tell(run, tell, promise, "second")
        if settle_in == "outside":
            resolver.fulfil(notes)
        else:
            abroad.run(resolver.fulfil, notes)
        with home:
            tell(promise, "third")
        home.drain()
        abroad.drain()
        assert seen == ["first", "third", "second"]

    def test_breakage_goes_through_answers_listeners_and_vats(self, vats):
        """ASY-32"""
        home, abroad = vats
        error = Boom("at the start")
        fails = abroad.spawn(failing)
        with home:
            start = send(fails, error)
            through = on(send(start.method, 1), lambda value: "never")
            end = send(through["part"], 2)
        for _ in range(3):
            abroad.drain()
            home.drain()
        for promise in (start, through, end):
            with pytest.raises(Boom) as caught:
                promise.result(timeout=0)
            assert caught.value is error

    def test_parts_work_between_vats_and_in_chains(self, vat, other_vat):
        """ASY-37"""
        far = other_vat.spawn(lambda bcom: lambda: {"list": [1, {"actor": spawn(counter, 5)}]})
        answer = vat.run(lambda: send(send(far)["list"][1]["actor"]))
        assert answer.result(timeout=30) == 5

    @pytest.mark.parametrize("key", ["text", 0, -1, (1, 2), None, 2.5], ids=repr)
    def test_any_key_of_a_mapping_will_do(self, vat, key):
        """ASY-38: the original takes texts and small numbers only."""
        promise, resolver = vat.run(promise_and_resolver)
        part = promise[key]
        resolver.fulfil({key: "here"})
        assert part.result(timeout=30) == "here"
