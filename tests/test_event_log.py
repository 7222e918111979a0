"""The event log: what a vat did, why, how it ended, and what its actors were at that time."""

import datetime
import gc
import importlib
import json
import re
import threading
import time
import weakref
from typing import Any

import goblins
import pytest
from goblins import (
    Actor,
    AsyncioVat,
    DeadlockError,
    Event,
    EventLog,
    EventLogError,
    FarCallError,
    ManualVat,
    NoSuchActorError,
    NoTurnError,
    PersistenceEnv,
    Vat,
    VatClosedError,
    methods,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_named,
    tell,
)
from hypothesis import given
from hypothesis import strategies as st
from support import Boom, cell, collect, counter, failing, failing_turn


class Account(Actor):
    balance: int = 0
    history: list[int] = []
    notes: dict[int, list[str]] = {}

    def deposit(self, amount: int) -> int:
        self.balance += amount
        self.history.append(amount)
        self.notes.setdefault(amount % 2, []).append(f"got {amount}")
        return self.balance

    def all(self) -> tuple[Any, ...]:
        return self.balance, self.history, self.notes

    def become_rich(self) -> Any:
        self.history.clear()
        return self.become(Account(10**6, [1, 2], {}))


ACCOUNTS = PersistenceEnv("accounts", Account)


@pytest.fixture
def home():
    vat = Vat("home", log=True)
    yield vat
    vat.close()


@pytest.fixture
def abroad():
    vat = Vat("abroad", log=True)
    yield vat
    vat.close()


def tally(bcom, value=0):
    """A counter with methods."""

    def add(by=1):
        return bcom(tally(bcom, value + by), value + by)

    def get():
        return value

    def fail():
        raise Boom("no")

    return methods(add=add, get=get, fail=fail)


def relay(bcom, target, method="add"):
    """Sends on what it gets."""

    def go():
        return send(getattr(target, method))

    return methods(go=go)


def kinds(log):
    return [event.kind for event in log]


class TestEvents:
    def test_each_turn_is_an_event_that_says_what_it_was(self, home):
        """LOG-01, LOG-02, LOG-04, LOG-06"""
        actor = home.spawn(tally)
        actor.add(2)
        assert send(actor.add, 3).result() == 5
        with home:
            promise = send(actor.get)
            on(promise, lambda value: None)
        made, called, sent, block, delivered, reacted = home.log
        assert kinds(home.log) == ["run", "run", "deliver", "run", "deliver", "react"]
        assert [event.churn for event in home.log] == [1, 2, 3, 4, 4, 4]
        assert [event.turn for event in home.log] == [1, 2, 3, 4, 5, 6]
        assert [event.sequence for event in home.log] == [0, 1, 2, 3, 4, 5]
        assert (called.target, called.method, called.ref) == ("tally#0", "add", actor)
        assert (sent.target, sent.method, sent.ref) == ("tally#0", "add", actor)
        assert (made.target, made.method, made.ref, block.target) == (None, None, None, None)
        assert made.cause is called.cause is sent.cause is block.cause is None
        assert delivered.cause == (home.id, block.time)
        assert reacted.cause == (home.id, delivered.time)
        assert {event.vat for event in home.log} == {"home"}
        assert {event.outcome for event in home.log} == {"kept"}

    def test_a_message_to_another_vat_is_an_event_of_its_own_and_the_cause_of_what_it_brings(
        self, home, abroad
    ):
        """LOG-01, LOG-06, VAT-20"""
        actor = abroad.spawn(tally)
        away = home.spawn(relay, actor)
        assert send(away.go).result() == 1
        turn, sent = home.log.tail(2)
        delivered = abroad.log[-1]
        assert (turn.kind, sent.kind, delivered.kind) == ("deliver", "send", "deliver")
        assert (sent.target, sent.method, sent.ref) == ("tally#0 of vat abroad", "add", actor)
        assert (sent.turn, sent.churn) == (turn.turn, turn.churn)
        assert sent.cause == (home.id, turn.time)
        assert delivered.cause == (home.id, sent.time)
        assert turn.time < sent.time < delivered.time

    def test_names_given_to_actors_are_shown(self, home):
        """ACT-15"""
        with home:
            actor = spawn_named("till", tally)
        actor.add()
        assert home.log[-1].target == "till#0"

    def test_a_failed_turn_is_undone_and_its_error_is_kept(self, home):
        """LOG-08"""
        actor = home.spawn(tally)
        with pytest.raises(Boom) as raised:
            actor.fail()
        event = home.log[-1]
        assert (event.outcome, event.error) == ("undone", raised.value)
        tell(actor.fail)
        home.drain()
        with failing_turn(home):
            raise Boom
        errors = home.log.errors()
        assert [event.kind for event, _ in errors] == ["run", "deliver", "run"]
        assert all(type(error) is Boom and event.error is error for event, error in errors)

    def test_an_event_knows_when_it_was_and_how_long_it_took(self, home):
        before = datetime.datetime.now(datetime.UTC)
        home.run(time.sleep, 0.05)
        after = datetime.datetime.now(datetime.UTC)
        event = home.log[-1]
        slack = datetime.timedelta(milliseconds=5)
        assert before - slack <= event.wall_time <= after + slack
        assert event.wall_time.utcoffset() == datetime.timedelta(0)
        assert 0.05 <= event.duration < 5

    def test_times_of_a_long_churn_are_in_order_and_add_up(self, home):
        actor = home.spawn(tally)
        home.log.capacity = 1000
        start = time.perf_counter()
        with home:
            for _ in range(500):
                tell(actor.add)
        took = time.perf_counter() - start
        events = home.log.tail(500)
        assert all(a.wall_time <= b.wall_time for a, b in zip(events, events[1:], strict=False))
        assert 0 < sum(event.duration for event in events) <= took

    def test_a_slow_turn_of_a_long_churn_stands_out(self, home):
        def sleeper(bcom):
            return time.sleep

        actor, slow = home.spawn(tally), home.spawn(sleeper)
        with home:
            for _ in range(101):
                tell(actor.add)
            tell(slow, 0.3)
            for _ in range(50):
                tell(actor.add)
        longest = max(home.log, key=lambda event: event.duration)
        assert longest.duration >= 0.02
        group = [event for event in home.log if event.duration == longest.duration]
        assert slow in [event.ref for event in group]

    def test_two_looks_at_an_event_are_equal(self, home, abroad):
        home.spawn(tally), abroad.spawn(tally)
        assert home.log[0] == home.log[0]
        assert hash(home.log[0]) == hash(home.log[0])
        assert home.log[0] != abroad.log[0]
        assert home.log[0] != "an event"
        assert home.log == home.log != abroad.log

    def test_events_and_logs_say_what_they_are(self, home):
        actor = home.spawn(tally)
        with pytest.raises(Boom):
            actor.fail()
        assert repr(home.log[0]) == "<Event 0 of vat home: run a call from outside, kept, turn 1, time 1>"
        assert (
            repr(home.log[1]) == "<Event 1 of vat home: run tally#0.fail, undone: Boom: no, turn 2, time 2>"
        )
        assert str(home.log[1]) == "home 2: run tally#0.fail (undone: Boom: no)"
        assert repr(home.log) == "<EventLog of vat home: 2 events, room for 256>"
        assert isinstance(home.log, EventLog)
        assert isinstance(home.log[0], Event)


class TestBuffer:
    def test_the_newest_push_out_the_oldest(self):
        """LOG-09"""
        vat = Vat(log=True, log_capacity=3)
        actor = vat.spawn(tally)
        for _ in range(9):
            actor.add()
        assert [event.turn for event in vat.log] == [8, 9, 10]
        assert (len(vat.log), vat.log.capacity) == (3, 3)

    def test_a_log_is_a_sequence(self, home):
        """LOG-12"""
        actor = home.spawn(tally)
        for _ in range(9):
            actor.add()
        log, turns = home.log, list(range(1, 11))
        assert [event.turn for event in log] == turns
        assert [event.turn for event in reversed(log)] == turns[::-1]
        assert [log[index].turn for index in range(-10, 10)] == turns + turns
        for index in (
            slice(None),
            slice(2, 5),
            slice(-3, None),
            slice(None, None, -2),
            slice(5, 2),
            slice(40),
        ):
            assert [event.turn for event in log[index]] == turns[index]
        assert [event.turn for event in log.tail(3)] == [8, 9, 10]
        assert len(log.tail()) == 10
        assert log.tail(0) == []
        assert log[3] in log
        assert log.index(log[3]) == 3
        for index in (10, -11):
            with pytest.raises(IndexError, match="10 events"):
                log[index]
        with pytest.raises(ValueError, match="number of events"):
            log.tail(-1)

    def test_it_can_be_resized(self, home):
        """LOG-10"""
        actor = home.spawn(tally)
        for _ in range(9):
            actor.add()
        home.log.capacity = 4
        assert [event.turn for event in home.log] == [7, 8, 9, 10]
        home.log.capacity = 6
        for _ in range(3):
            actor.add()
        assert [event.turn for event in home.log] == [8, 9, 10, 11, 12, 13]
        for capacity in (0, -1):
            with pytest.raises(ValueError, match="at least 1"):
                home.log.capacity = capacity

    def test_it_can_be_cleared(self, home):
        """LOG-10"""
        actor = home.spawn(tally)
        home.log.clear()
        assert list(home.log) == []
        actor.add()
        assert [event.turn for event in home.log] == [2]

    def test_it_can_be_switched_on_and_off_and_the_clock_runs(self, vat):
        """LOG-11"""
        actor = vat.spawn(tally)
        assert (len(vat.log), vat.log.enabled, vat.log.capacity) == (0, False, 256)
        vat.log.enabled = True
        actor.add()
        vat.log.enabled = False
        actor.add()
        assert "switched off" in repr(vat.log)
        vat.log.enabled = True
        actor.add()
        assert [event.time for event in vat.log] == [2, 4]

    def test_the_capacity_of_a_log_that_is_off_is_kept_for_later(self):
        """LOG-09"""
        vat = Vat(log_capacity=2)
        vat.log.enabled = True
        actor = vat.spawn(tally)
        for _ in range(4):
            actor.add()
        assert [event.turn for event in vat.log] == [4, 5]

    def test_a_vat_that_is_stuck_can_be_looked_at(self, home):
        inside, go_on = threading.Event(), threading.Event()

        def block():
            inside.set()
            go_on.wait(20)

        home.spawn(tally)
        thread = threading.Thread(target=home.run, args=(block,))
        thread.start()
        try:
            assert inside.wait(20)
            assert len(home.log) == 1
            home.log.capacity = 10
            home.log.clear()
        finally:
            go_on.set()
            thread.join()
        assert len(home.log) == 1

    def test_a_log_can_be_looked_at_from_inside_a_turn(self, home):
        home.spawn(tally)
        assert home.run(lambda: len(home.log)) == 1

    def test_readers_see_whole_events_while_the_vat_works(self, home):
        actor = home.spawn(tally)
        done = threading.Event()
        problems = []

        def read():
            while not done.is_set():
                events = list(home.log)
                numbers = [event.sequence for event in events]
                if numbers != sorted(set(numbers)) or any(event.ref not in (None, actor) for event in events):
                    problems.append(numbers)
                if len(home.log):
                    home.log[0], home.log[-1]

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(100):
            with home:
                for _ in range(50):
                    tell(actor.add)
        done.set()
        for thread in threads:
            thread.join()
        assert not problems
        assert actor.get() == 5000


class TestCausesAndEffects:
    def test_trace_and_tree_go_across_vats(self, home, abroad):
        """LOG-06, LOG-12, LOG-13, LOG-15, LOG-16"""
        end = home.spawn(tally)
        middle = abroad.spawn(relay, end)
        start = home.spawn(relay, middle, "go")
        tell(start.go)
        home.drain(), abroad.drain(), home.drain()
        last = next(event for event in reversed(home.log) if event.ref is end)
        trace = last.trace()
        assert [(event.vat, event.kind) for event in trace] == [
            ("home", "deliver"),
            ("abroad", "send"),
            ("abroad", "deliver"),
            ("home", "send"),
            ("home", "deliver"),
        ]
        root = trace[-1]
        assert root.previous is None
        assert [event.previous for event in trace[:-1]] == trace[1:]
        for cause, effect in zip(trace[1:], trace, strict=False):
            assert effect in cause.next
        assert last.next == []
        tree = trace[2].tree()
        assert tree.event == root
        assert list(tree) == trace[::-1]
        assert len(tree) == 5
        lines = str(tree).splitlines()
        assert [len(line) - len(line.lstrip()) for line in lines] == [0, 2, 4, 6, 8]
        assert "relay#1.go" in lines[0]
        assert repr(tree) == str(tree)

    def test_a_tree_is_mapped_and_filtered_by_python_alone(self, home, abroad):
        """LOG-17"""
        end = home.spawn(tally)
        start = home.spawn(relay, abroad.spawn(relay, end), "go")
        tell(start.go)
        home.drain(), abroad.drain(), home.drain()
        tree = home.log[-1].tree()
        seen = []

        def in_post_order(tree):
            branches = [in_post_order(branch) for branch in tree.branches]
            seen.append(tree.event)
            return (tree.event.kind, *branches)

        assert in_post_order(tree) == ("deliver", ("send", ("deliver", ("send", ("deliver",)))))
        assert seen == list(tree)[::-1]
        assert [event.vat for event in tree if event.kind == "send"] == ["home", "abroad"]

    def test_a_timeline_is_made_of_a_tree_by_python_alone(self, home, abroad):
        """LOG-18: by vat and time, each event with where and when it had its effects elsewhere."""
        end = home.spawn(tally)
        start = home.spawn(relay, abroad.spawn(relay, end), "go")
        tell(start.go)
        home.drain(), abroad.drain(), home.drain()
        timeline = {}
        for event in home.log[-1].tree():
            elsewhere = [(effect.vat, effect.time) for effect in event.next if effect.vat != event.vat]
            timeline.setdefault(event.vat, {})[event.time] = (event, elsewhere)
        assert {vat: sorted(times) == list(times) for vat, times in timeline.items()} == {
            "home": True,
            "abroad": True,
        }
        jumps = [(vat, where) for vat, times in timeline.items() for _, where in times.values() if where]
        assert [(vat, where[0][0]) for vat, where in jumps] == [("home", "abroad"), ("abroad", "home")]
        for _, ((there, then),) in jumps:
            assert then in timeline[there]

    def test_next_is_in_order(self, home):
        """LOG-12, LOG-19"""
        actor = home.spawn(tally)
        with home:
            for _ in range(5):
                tell(actor.add)
        block = home.log[1]
        assert [event.turn for event in block.next] == [3, 4, 5, 6, 7]
        assert home.log[0].next == []

    def test_a_chain_may_be_longer_than_the_stack_is_deep(self):
        """LOG-16"""
        vat = Vat(log=True, log_capacity=5000)

        def hopper(bcom, hops):
            def hop(me):
                if hops:
                    tell(me, me)
                    return bcom(hopper(bcom, hops - 1))
                return None

            return hop

        actor = vat.spawn(hopper, 3000)
        with vat:
            tell(actor, actor)
        last = vat.log[-1]
        assert len(last.trace()) == 3002
        assert len(str(last.tree()).splitlines()) == 3002

    def test_a_vat_that_does_not_log_or_has_lost_the_event_ends_the_walk(self, vat, home):
        """LOG-16"""
        actor = home.spawn(tally)
        away = vat.spawn(relay, actor)
        assert send(away.go).result() == 1
        last = home.log[-1]
        assert last.cause.vat == vat.id
        assert last.previous is None
        assert last.trace() == [last]
        assert list(last.tree()) == [last]
        home.log.clear()
        assert last.tree().event == last
        assert last.next == []

    def test_vats_are_listed_and_counted(self, vat, other_vat):
        """VAT-02, VAT-03"""
        assert vat.id < other_vat.id
        listed = goblins.vats()
        assert listed.index(vat) < listed.index(other_vat)
        number = Vat().id
        collect()
        assert number == other_vat.id + 1
        assert number not in [listed.id for listed in goblins.vats()]

    def test_vats_of_all_kinds_are_listed(self):
        """VAT-03"""

        class Mine(Vat):
            def __init__(self, *, name):
                super().__init__()

        manual, mine = ManualVat(log=True), Mine(name="mine")
        assert [vat for vat in goblins.vats() if vat in (manual, mine)] == [manual, mine]


class TestNotes:
    def test_an_error_says_in_which_turn_it_was(self, home, vat):
        """TRN-02"""
        for where, event in ((home, ", event 1 of its log"), (vat, "")):
            actor = where.spawn(tally)
            with pytest.raises(Boom) as raised:
                actor.fail()
            assert raised.value.__notes__ == [f"in tally#0.fail, turn 2 of vat home{event}"]
            promise = send(actor.fail)
            with pytest.raises(Boom) as raised:
                promise.result()
            assert len(raised.value.__notes__) == 1
            with failing_turn(where) as raised:
                raise Boom
            assert raised.value.__notes__[0].startswith("in turn 4 of vat home")

    def test_an_error_that_passes_several_turns_is_noted_once(self, home):
        actor = home.spawn(failing)
        with home:
            promise = send(actor, Boom("no"))
            for _ in range(3):
                promise = on(promise, lambda value: value)
            promise = on(promise, catch=lambda error: send(actor, error))
        with pytest.raises(Boom) as raised:
            promise.result()
        assert raised.value.__notes__ == ["in failing#0, turn 3 of vat home, event 2 of its log"]

    def test_notes_of_others_stay(self, vat):
        error = Boom("no")
        error.add_note("in my own words")
        with pytest.raises(Boom):
            vat.spawn(failing)(error)
        assert error.__notes__ == ["in my own words", "in failing#0, turn 2 of vat home"]

    def test_an_error_that_takes_no_notes_goes_on_without(self, vat):
        class Stubborn(Exception):
            def add_note(self, note):
                raise Boom

        with pytest.raises(Stubborn):
            vat.spawn(failing)(Stubborn())


class TestLookingBack:
    def test_an_actor_is_called_as_it_was_at_an_event(self, home):
        """LOG-05, LOG-22"""
        actor = home.spawn(tally)
        for _ in range(3):
            actor.add()
        with pytest.raises(Boom):
            actor.fail()
        assert [event.peek(actor.get) for event in home.log] == [0, 1, 2, 3, 3]
        assert [event.peek(actor.get, before=True) for event in home.log.tail(4)] == [0, 1, 2, 3]
        assert actor.get() == 3

    def test_a_look_back_changes_nothing(self, home, abroad):
        """LOG-22"""
        actor, far = home.spawn(tally), abroad.spawn(tally)
        promise, resolver = promise_and_resolver()

        def busy(bcom):
            def work():
                actor.add()
                tell(actor.add)
                tell(far.add)
                resolver.fulfil(1)
                spawn(tally)
                on(promise, print)
                return actor.get()

            return work

        worker = home.spawn(busy)
        actor.add(10)
        before = list(home.log)
        assert home.log[1].peek(worker) == 1
        assert list(home.log) == before
        home.drain(), abroad.drain()
        assert (actor.get(), far.get()) == (10, 0)
        assert repr(promise) == "<Promise pending>"
        assert home.log[1].peek(actor.add, 5) == 5
        assert home.log[-1].peek(actor.get) == 10

    def test_calls_with_arguments_and_without_a_method(self, home):
        ticks = home.spawn(counter)
        assert [ticks(), ticks()] == [0, 1]
        event = home.log[1]
        assert event.peek(ticks) == 1
        assert event.peek(ticks, before=True) == 0
        box = home.spawn(cell)
        box.put("new")
        assert home.log[-1].peek(box.get) == "new"
        assert home.log[-1].peek(box.put, new="newer") is None
        assert home.log[-2].peek(box.get) is None

    def test_it_raises_what_the_actor_raises(self, home):
        """LOG-22"""
        actor = home.spawn(tally)
        with pytest.raises(Boom) as raised:
            home.log[0].peek(actor.fail)
        assert not hasattr(raised.value, "__notes__")
        assert len(home.log) == 1

    def test_several_actors_of_one_turn_go_back_together(self, home):
        """LOG-05"""
        actors = [home.spawn(tally) for _ in range(5)]
        with home:
            for by, actor in enumerate(actors):
                actor.add(by)
                actor.add(10)
        event = home.log[-1]
        assert [event.peek(actor.get) for actor in actors] == [10, 11, 12, 13, 14]
        assert [event.peek(actor.get, before=True) for actor in actors] == [0] * 5

    def test_an_actor_that_was_spawned_later_is_not_there(self, home):
        """LOG-22"""
        first = home.spawn(tally)
        second = home.spawn(tally)
        with pytest.raises(NoSuchActorError, match="spawned later"):
            home.log[0].peek(second.get)
        with pytest.raises(NoSuchActorError):
            home.log[0].peek(first.get, before=True)
        assert home.log[1].peek(second.get) == 0
        assert second.get() == 0

    def test_a_sending_shows_the_end_of_the_turn_that_sent(self, home, abroad):
        """LOG-05"""
        far = abroad.spawn(tally)
        actor = home.spawn(tally)
        with home:
            actor.add()
            tell(far.add)
            actor.add()
        actor.add()
        sent = home.log[-2]
        assert sent.kind == "send"
        assert sent.peek(actor.get) == sent.peek(actor.get, before=True) == 2

    def test_it_does_not_reach_beyond_a_gap(self, home):
        """LOG-11, LOG-22"""
        actor = home.spawn(tally)
        actor.add()
        old = home.log[-1]
        home.log.enabled = False
        with pytest.raises(EventLogError, match="switched off"):
            old.peek(actor.get)
        actor.add()
        home.log.enabled = True
        actor.add()
        with pytest.raises(EventLogError, match="switched off"):
            old.peek(actor.get)
        assert home.log[-1].peek(actor.get, before=True) == 2
        old = home.log[-1]
        home.log.capacity = 2
        actor.add(), actor.add()
        assert old.peek(actor.get) == 3
        with pytest.raises(EventLogError, match="larger capacity"):
            old.peek(actor.get, before=True)
        actor.add()
        with pytest.raises(EventLogError, match="home.*event 2.*larger capacity"):
            old.peek(actor.get)

    def test_it_works_only_where_it_can(self, home, abroad):
        """LOG-22"""
        actor, far = home.spawn(tally), abroad.spawn(tally)
        event = home.log[0]
        with pytest.raises(FarCallError, match="abroad"):
            event.peek(far.get)
        with pytest.raises(DeadlockError, match="outside of turns"), home:
            event.peek(actor.get)
        with pytest.raises(goblins.BehaviorError):
            event.peek(send(actor.get))
        with pytest.raises(goblins.BehaviorError):
            event.peek(len)
        home.close()
        with pytest.raises(VatClosedError):
            event.peek(actor.get)
        home.open()
        assert event.peek(actor.get) == 0

    def test_answers_that_would_never_come_are_an_error(self, home):
        """LOG-22"""
        actor = home.spawn(tally)
        sender = home.spawn(relay, actor)

        def waiting(bcom):
            async def value():
                return 7

            async def wait():
                return await send(actor.get)

            return methods(value=value, wait=wait)

        waiter = home.spawn(waiting)
        event = home.log[-1]
        assert event.peek(waiter.value) == 7
        for target in (sender.go, waiter.wait):
            with pytest.raises(NoTurnError, match="nothing is sent"):
                event.peek(target)
        promise, resolver = promise_and_resolver()
        box = home.spawn(cell, promise)
        assert home.log[-1].peek(box.get) is promise
        resolver.fulfil(1)

    def test_fields_that_were_changed_in_place_are_as_they_were(self, place):
        """LOG-05, LOG-22"""
        vat, account = place.spawn(lambda: spawn(Account), env=ACCOUNTS, log=True)
        history = [account.all()]
        for amount in (5, 7, 9):
            account.deposit(amount)
            history.append(account.all())
        account.become_rich()
        history.append(account.all())
        turns = [event for event in vat.log if event.method != "all"]
        assert [event.peek(account.all) for event in turns] == history
        assert [event.peek(account.all, before=True) for event in turns[1:]] == history[:-1]
        assert turns[1].peek(account.deposit, 100) == 105
        assert account.all() == history[-1]
        account.deposit(1)
        assert vat.log[-1].peek(account.all, before=True) == history[-1]
        vat.close()

    def test_a_vat_in_a_store_is_looked_at_without_writing(self, place):
        """LOG-22, G5"""
        vat, ticks, box = place.spawn(lambda: (spawn(counter), spawn(cell)), log=True)
        for _ in range(3):
            ticks()
        box.put(ticks)
        assert [event.peek(ticks) for event in vat.log] == [0, 1, 2, 3, 3]
        assert vat.log[1].peek(box.get) is None
        assert ticks() == 3
        vat, ticks, box = place.restart(vat, log=True)
        # Made of its record during the look, and a ghost again.
        assert vat.log[0].peek(box.get) is ticks
        assert vat.log[0].peek(ticks) == 4
        assert ticks() == 4
        assert [event.peek(ticks) for event in vat.log] == [4, 5]
        vat.close()

    async def test_a_vat_on_an_event_loop_is_looked_at_from_any_thread(self):
        """LOG-22, VAT-06"""
        import asyncio

        vat = AsyncioVat(name="loop", log=True)
        actor = vat.spawn(tally)
        actor.add()
        assert vat.log[-1].peek(actor.get, before=True) == 0
        event = vat.log[-1]
        assert await asyncio.to_thread(lambda: event.peek(actor.get)) == 1
        vat.close()

    @given(st.data())
    def test_every_moment_of_a_random_program_is_as_a_plain_model_says(self, data):
        """LOG-05, LOG-22"""
        vats = [Vat(f"vat {number}", log=True, log_capacity=10_000) for number in range(2)]
        actors, state, history = ([], []), ({}, {}), ([], [])

        def note(vat):
            # What was there at the end of each event, in the order of events.
            history[vat].append(dict(state[vat]))

        def step(vat, ops, new):
            """Does it for real, and to ``new``, the model's state at the end of the turn."""
            for op, which, by in ops:
                here = actors[vat]
                if op == "spawn":
                    actor = spawn(tally, by)
                    here.append(actor)
                    new[actor] = by
                elif op == "add" and here:
                    actor = here[which % len(here)]
                    if actor in new:
                        actor.add(by)
                        new[actor] += by
                elif op == "tell" and here:
                    near.append((here[which % len(here)], by))
                    tell(here[which % len(here)].add, by)
                elif op == "far" and actors[1 - vat]:
                    actor = actors[1 - vat][which % len(actors[1 - vat])]
                    tell(actor.add, by)
                    far.append((actor, by))
                elif op == "fail":
                    raise Boom

        ops = st.lists(
            st.tuples(
                st.sampled_from(["spawn", "spawn", "add", "add", "add", "tell", "far", "fail"]),
                st.integers(0, 30),
                st.integers(1, 9),
            ),
            max_size=12,
        )
        first = [("spawn", 0, number) for number in range(6)]
        for vat in (0, 1):
            vats[vat].run(step, vat, first, state[vat])
            note(vat)
        near, far = [], []
        for _ in range(data.draw(st.integers(1, 8))):
            vat = data.draw(st.integers(0, 1))
            near, far, new = [], [], dict(state[vat])
            program = data.draw(ops)
            try:
                vats[vat].run(step, vat, program, new)
            except Boom:
                note(vat)
                continue
            state[vat].clear(), state[vat].update(new)
            note(vat)
            for _ in far:
                note(vat)
            for actor, by in near:
                if actor in state[vat]:
                    state[vat][actor] += by
                note(vat)
            vats[1 - vat].drain()
            for actor, by in far:
                if actor in state[1 - vat]:
                    state[1 - vat][actor] += by
                note(1 - vat)
        for vat in (0, 1):
            log = list(vats[vat].log)
            assert len(log) == len(history[vat])
            for event, before, after in zip(log, [{}, *history[vat]], history[vat], strict=False):
                for actor in actors[vat]:
                    for moment, expected in ((False, after), (True, before)):
                        try:
                            value = event.peek(actor.get, before=moment)
                        except NoSuchActorError:
                            value = None
                        assert value == expected.get(actor)


class TestFiles:
    def test_a_trace_for_perfetto(self, home, abroad, tmp_path):
        actor = abroad.spawn(tally)
        assert send(home.spawn(relay, actor).go).result() == 1
        path = tmp_path / "trace.json"
        home.log.export(path)
        rows = json.loads(path.read_text())["traceEvents"]
        bars = [row for row in rows if row["ph"] == "X"]
        assert [bar["name"] for bar in bars if bar["cat"] == "deliver"] == ["relay#0.go", "tally#0.add"]
        assert all(bar["dur"] > 0 and bar["ts"] >= 0 for bar in bars)
        names = {row["args"]["name"]: row["tid"] for row in rows if row["name"] == "thread_name"}
        assert set(names) == {"vat home", "vat abroad"}
        start, finish = [row for row in rows if row["ph"] in "sf"]
        assert (start["ph"], finish["ph"], start["id"]) == ("s", "f", finish["id"])
        assert (start["tid"], finish["tid"]) == (names["vat home"], names["vat abroad"])
        assert start["ts"] <= finish["ts"]
        assert len({row["pid"] for row in rows}) == 1

    def test_a_graph_for_graphviz(self, tmp_path):
        odd = Vat('a "quoted" \\ name', log=True)
        with odd:
            actor = spawn_named('x"y\\\n<b>', relay, spawn(tally))
        tell(actor.go)
        odd.drain()
        with pytest.raises(Boom):
            odd.spawn(failing)(Boom('say "no"\nor not'))
        path = tmp_path / "graph.dot"
        odd.log.export(str(path))
        text = path.read_text(encoding="utf-8")
        assert 'label="vat a \\"quoted\\" \\\\ name"' in text
        assert 'x\\"y\\\\\\n<b>#1.go' in text
        assert "color=red" in text
        assert re.search(r"e\d+_2 -> e\d+_3;", text)
        # Without what is quoted, only names and punctuation are left.
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
        assert bare.count("{") == bare.count("}") == 2
        assert "quoted" not in bare
        assert "no" not in bare.replace("node", "")

    def test_other_names_are_refused(self, home, tmp_path):
        with pytest.raises(ValueError, match=r"\.json or \.dot"):
            home.log.export(tmp_path / "log.txt")

    def test_notebooks_get_tables_with_everything_escaped(self, home):
        with home:
            actor = spawn_named("<script>", tally)
        with pytest.raises(Boom):
            home.spawn(failing)(Boom("<b>"))
        tell(actor.add)
        home.drain()
        for html in (home.log._repr_html_(), home.log[-1].tree()._repr_html_()):
            assert "<script>" not in html
            assert "&lt;script&gt;#0.add" in html
            assert html.count("<tr>") == html.count("</tr>") > 1
        assert "&lt;b&gt;" in home.log._repr_html_()


class TestSpans:
    def test_events_become_spans(self, home, abroad):
        pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk")
        from goblins import otel
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from opentelemetry.trace import SpanKind, StatusCode

        actor = abroad.spawn(tally)
        away = home.spawn(relay, actor, "fail")
        home.log.clear(), abroad.log.clear()
        with pytest.raises(Boom):
            send(away.go).result()
        memory = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(memory))
        assert otel.export(home.log, provider) == 3
        turn, sent, failed = memory.get_finished_spans()
        assert [span.name for span in (turn, sent, failed)] == [
            "relay#0.go",
            "tally#0.fail of vat abroad",
            "tally#0.fail",
        ]
        assert turn.parent is None
        assert sent.parent.span_id == turn.context.span_id
        assert failed.parent.span_id == sent.context.span_id
        assert (sent.kind, failed.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
        assert failed.status.status_code is StatusCode.ERROR
        assert failed.events[0].attributes["exception.message"] == "no"
        assert turn.status.status_code is StatusCode.UNSET
        assert turn.attributes["goblins.vat"] == "home"
        assert turn.start_time <= turn.end_time

    def test_without_opentelemetry_the_error_says_what_to_install(self, monkeypatch):
        import sys

        for name in [name for name in sys.modules if name.startswith(("opentelemetry", "goblins.otel"))]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "opentelemetry", None)
        with pytest.raises(ImportError, match=r"pip install 'goblins\[otel\]'"):
            importlib.import_module("goblins.otel")


class Marker:
    pass


class TestMemory:
    def test_old_behaviors_live_as_long_as_the_log_has_them(self, home):
        """LIM-36"""
        marker = Marker()
        weak = weakref.ref(marker)
        box = home.spawn(cell, marker)
        del marker
        box.put(1)
        collect()
        assert weak() is not None
        home.log.clear()
        collect()
        assert weak() is None

    @pytest.mark.parametrize("forget", ["evict", "shrink"])
    def test_what_falls_out_of_the_log_is_gone(self, forget):
        """LOG-09, LOG-10"""
        vat = Vat(log=True, log_capacity=4)
        marker = Marker()
        weak = weakref.ref(marker)
        box = vat.spawn(cell, marker)
        del marker
        box.put(1)
        if forget == "shrink":
            box.put(2)
            vat.log.capacity = 1
        else:
            for value in range(4):
                box.put(value)
        collect()
        assert weak() is None

    def test_a_vat_goes_with_its_log(self):
        """ACT-20"""
        vat = Vat(log=True)
        marker = Marker()
        weak, weak_vat = weakref.ref(marker), weakref.ref(vat)
        box = vat.spawn(cell, marker)
        box.put(2)
        with pytest.raises(Boom):
            vat.spawn(failing)(Boom(marker))
        del vat, box, marker
        collect()
        assert weak_vat() is None
        assert weak() is None

    def test_a_vat_that_its_own_log_holds_goes(self):
        """ACT-20"""
        vat = Vat(log=True)
        weak = weakref.ref(vat)
        box = vat.spawn(cell, vat)
        box.put(1)

        def fail(mine):
            raise Boom(mine)

        with pytest.raises(Boom):
            vat.run(fail, vat)
        del vat, box
        collect()
        assert weak() is None

    def test_code_that_runs_when_something_falls_out_may_use_the_vat(self):
        vat = Vat(log=True, log_capacity=2)
        seen = []

        class Loud:
            def __del__(self):
                seen.append(len(vat.log))
                tell(other.add)

        other = vat.spawn(tally)
        box = vat.spawn(cell, Loud())
        for value in range(5):
            box.put(value)
        vat.log.clear()
        gc.collect()
        vat.drain()
        assert len(seen) == 1
        assert other.get() == 1


def test_a_chain_of_thousands_of_events_is_shown_in_few_words():
    vat = Vat("long", log=True, log_capacity=5000)

    @goblins.actor
    def link(bcom):
        return lambda left: tell(me[0], left - 1) if left else None

    me = [vat.spawn(link)]
    tell(me[0], 4000)
    vat.drain()
    tree = vat.log[-1].tree()
    assert len(tree) == 4001
    assert len(repr(tree)) < 500_000
    assert repr(tree).endswith("... and 3,001 more events: print(tree) shows all")
    assert len(tree._repr_html_()) < 2_000_000
    lines = str(tree).splitlines()
    assert len(lines) == 4001
    assert max(map(len, lines)) < 200
    assert "[3999] " in lines[3999]
    vat.close()
