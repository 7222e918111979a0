"""Who runs a vat's messages, how many may wait, and what is said of turns that take long (VAT-05, VAT-06)."""

import asyncio
import functools
import logging
import os
import threading

import pytest
from goblins import (
    Actor,
    AsyncioVat,
    GoblinsError,
    InboxFullError,
    ManualVat,
    MemoryStore,
    NoTurnError,
    PersistenceEnv,
    PersistenceError,
    Vat,
    VatClosedError,
    actor,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)
from support import ENV, Boom, caller, cell, counter, echo, failing


@pytest.fixture
def manual():
    vat = ManualVat("by hand")
    yield vat
    vat.close()


class TestManualVats:
    def test_nothing_runs_until_a_step_is_made(self, manual):
        box = manual.spawn(cell)
        answers = [send(box.put, n) for n in range(3)]
        assert box.get() is None
        assert manual.backlog == 3
        assert manual.step() is True
        assert box.get() == 0
        assert answers[0].result(30) is None
        with pytest.raises(TimeoutError):
            answers[1].result(0)
        assert manual.step() is True
        assert manual.step() is True
        assert manual.step() is False
        assert box.get() == 2

    def test_drain_runs_all(self, manual):
        box = manual.spawn(cell)
        for n in range(100):
            tell(box.put, n)
        manual.drain()
        assert (box.get(), manual.backlog) == (99, 0)

    def test_a_step_does_all_near_messages_that_come_of_one(self, manual):
        heard = []

        def chain(bcom, me):
            def behavior(n):
                heard.append(n)
                if n:
                    tell(me[0], n - 1)

            return behavior

        me = []
        me.append(manual.spawn(chain, me))
        tell(me[0], 3)
        assert heard == []
        assert manual.step()
        assert heard == [3, 2, 1, 0]

    def test_messages_of_two_vats_go_back_and_forth_as_the_test_wants(self, manual):
        other = ManualVat("other")
        asker = manual.spawn(
            lambda bcom, friend: lambda: on(send(friend, 20), lambda n: n + 1), other.spawn(echo)
        )
        answer = send(asker)
        assert manual.step()
        assert other.step()
        with pytest.raises(TimeoutError):
            answer.result(0)
        assert manual.step()
        assert answer.result(30) == 21
        other.close()

    def test_a_step_in_a_turn_is_an_error(self, manual):
        with manual, pytest.raises(GoblinsError):
            manual.step()

    def test_a_closed_one_makes_no_step(self):
        vat = ManualVat()
        answer = send(vat.spawn(counter))
        vat.close()
        with pytest.raises(VatClosedError):
            vat.step()
        with pytest.raises(VatClosedError):
            answer.result(30)

    def test_a_persistent_vat_can_be_one(self, place):
        vat, ticks = place.spawn(lambda: spawn(counter), vat_constructor=ManualVat)
        assert isinstance(vat, ManualVat)
        answer = send(ticks)
        assert vat.step()
        assert answer.result(30) == 0
        _, ticks = place.restart(vat)
        assert ticks() == 1


class TestAsyncioVats:
    async def test_messages_run_on_the_loop(self):
        loop = asyncio.get_running_loop()
        vat = AsyncioVat(loop, "looped")
        here = threading.get_ident()
        where = vat.spawn(lambda bcom: threading.get_ident)
        assert await send(where) == here
        assert where() == here
        with vat:
            assert where() == here
        answers = []
        thread = threading.Thread(target=lambda: answers.append(send(where)))
        thread.start()
        thread.join()
        assert await answers[0] == here
        vat.close()

    async def test_calls_from_other_threads_run_on_the_loop_too(self):
        vat = AsyncioVat(name="looped")
        here = threading.get_ident()
        ticks = vat.spawn(counter)
        where = vat.spawn(caller)

        def from_outside():
            assert ticks() == 0
            assert vat.run(lambda: (threading.get_ident(), ticks())) == (here, 1)
            assert vat.spawn(counter, 5)() == 5
            assert where(threading.get_ident) == here
            with pytest.raises(Boom):
                where(failing(None), Boom())
            vat.drain()
            with pytest.raises(NoTurnError, match=r"run\("), vat:
                pass

        await asyncio.to_thread(from_outside)
        assert ticks() == 2
        vat.close()

    async def test_a_burst_of_messages_leaves_the_loop_responsive(self):
        vat = AsyncioVat()
        ticks = vat.spawn(counter)
        for _ in range(1000):
            tell(ticks)
        turns_of_the_loop = 0
        while vat.backlog:
            await asyncio.sleep(0)
            turns_of_the_loop += 1
        assert turns_of_the_loop > 1
        assert ticks() == 1000
        vat.close()

    def test_without_a_loop_it_is_an_error(self):
        with pytest.raises(RuntimeError):
            AsyncioVat()
        with pytest.raises((TypeError, AttributeError)):
            AsyncioVat("looped")

    def test_a_loop_that_does_not_run_is_an_error_for_callers(self):
        loop = asyncio.new_event_loop()
        vat = AsyncioVat(loop)
        with pytest.raises(GoblinsError, match="does not run"):
            vat.spawn(counter)
        vat.close()
        loop.close()

    async def test_a_persistent_vat_can_be_one(self):
        loop = asyncio.get_running_loop()
        with MemoryStore() as store:
            vat, ticks = spawn_persistent_vat(
                ENV, lambda: spawn(counter), store, vat_constructor=functools.partial(AsyncioVat, loop)
            )
            assert isinstance(vat, AsyncioVat)
            assert [await send(ticks) for _ in range(3)] == [0, 1, 2]


class TestVatConstructors:
    def test_any_function_that_passes_its_keywords_on_will_do(self, place):
        class Named(Vat):
            pass

        vat, _ = place.spawn(
            lambda: spawn(counter), vat_constructor=lambda **keywords: Named(inbox_limit=7, **keywords)
        )
        assert isinstance(vat, Named)
        assert vat.inbox_limit == 7

    @pytest.mark.parametrize("made", [lambda **_: Vat(), lambda **_: None, 42], ids=["new", "none", "number"])
    def test_what_makes_no_vat_of_the_store_is_an_error_that_leaves_the_store_free(self, place, made):
        with pytest.raises(TypeError, match="vat_constructor"):
            place.spawn(lambda: spawn(counter), vat_constructor=made)
        _, ticks = place.spawn(lambda: spawn(counter))
        assert ticks() == 0


class TestInboxLimits:
    """LIM-32"""

    def test_a_sender_in_a_turn_gets_an_error_when_the_inbox_is_full(self, vat):
        full = ManualVat("full", inbox_limit=2)
        ticks = full.spawn(counter)
        tell(ticks)
        tell(ticks)
        with pytest.raises(InboxFullError, match="full"):
            vat.run(tell, ticks)
        with pytest.raises(InboxFullError):
            vat.run(send, ticks)
        full.drain()
        vat.run(tell, ticks)
        full.drain()
        assert ticks() == 3
        full.close()

    def test_a_sender_outside_waits_until_there_is_room(self):
        vat = Vat(inbox_limit=1)
        call, ticks = vat.spawn(caller), vat.spawn(counter)
        entered, leave = threading.Event(), threading.Event()

        def block():
            entered.set()
            leave.wait(30)

        holder = threading.Thread(target=call, args=(block,))
        holder.start()
        assert entered.wait(30)
        tell(ticks)
        sent = threading.Event()

        def one_too_many():
            tell(ticks)
            sent.set()

        sender = threading.Thread(target=one_too_many)
        sender.start()
        assert not sent.is_set()
        leave.set()
        assert sent.wait(30)
        holder.join()
        sender.join()
        vat.drain(30)
        assert ticks() == 2
        vat.close()

    def test_where_nobody_would_make_room_a_sender_outside_gets_an_error(self):
        vat = ManualVat(inbox_limit=1)
        ticks = vat.spawn(counter)
        tell(ticks)
        with pytest.raises(InboxFullError, match="inbox_limit"):
            tell(ticks)
        vat.inbox_limit = None
        tell(ticks)
        assert vat.backlog == 2
        vat.close()

    def test_messages_inside_a_vat_are_not_counted(self):
        vat = Vat(inbox_limit=1)
        ticks = vat.spawn(counter)
        with vat:
            for _ in range(100):
                tell(ticks)
        assert ticks() == 100
        vat.close()

    def test_many_threads_at_a_small_inbox_lose_nothing(self):
        vat = Vat(inbox_limit=3)
        ticks = vat.spawn(counter)
        threads = [threading.Thread(target=lambda: [tell(ticks) for _ in range(500)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        vat.drain(30)
        assert ticks() == 2000
        vat.close()

    @pytest.mark.parametrize("limit", [0, -1, "many"])
    def test_a_limit_is_a_number_of_messages(self, limit):
        with pytest.raises((ValueError, TypeError, OverflowError)):
            Vat(inbox_limit=limit)


class TestSlowTurns:
    class Heard(logging.Handler):
        """Lets the turn go on when its report has come."""

        def __init__(self, leave):
            super().__init__()
            self.leave = leave
            self.texts = []

        def emit(self, record):
            self.texts.append(record.getMessage())
            self.leave.set()

    @pytest.fixture
    def heard(self):
        handler = self.Heard(threading.Event())
        logger = logging.getLogger("goblins")
        logger.addHandler(handler)
        yield handler
        logger.removeHandler(handler)

    def test_a_turn_that_takes_long_is_logged_once_with_its_stack(self, heard):
        vat = Vat("busy", slow_turn=0.001)

        def a_telling_name():
            assert heard.leave.wait(30)

        vat.run(a_telling_name)
        (text,) = heard.texts
        assert "busy" in text
        assert "a_telling_name" in text
        heard.leave.clear()
        vat.run(a_telling_name)
        assert len(heard.texts) == 2
        vat.close()

    def test_it_is_seen_on_a_worker_too(self, heard):
        vat = Vat("busy", slow_turn=0.001)
        call = vat.spawn(caller)

        def a_telling_name():
            return heard.leave.wait(30)

        assert send(call, a_telling_name).result(30)
        assert "a_telling_name" in heard.texts[0]
        vat.close()

    def test_it_can_be_changed_and_switched_off(self):
        vat = Vat()
        assert vat.slow_turn == 1.0
        vat.slow_turn = 2.5
        assert vat.slow_turn == 2.5
        vat.slow_turn = None
        assert vat.slow_turn is None
        assert Vat(slow_turn=None).slow_turn is None
        vat.close()


class TestOpeningAgain:
    """VAT-17: the original can't."""

    def test_a_closed_vat_can_be_opened_again_with_its_actors_as_they_were(self):
        vat = Vat("revived")
        ticks = vat.spawn(counter)
        assert ticks() == 0
        vat.close()
        with pytest.raises(VatClosedError):
            ticks()
        vat.open()
        assert not vat.closed
        assert ticks() == 1
        assert send(ticks).result(30) == 2
        assert vat.spawn(counter, 7)() == 7
        vat.close()

    def test_opening_an_open_one_changes_nothing(self, vat):
        ticks = vat.spawn(counter)
        vat.open()
        assert ticks() == 0

    def test_one_with_a_store_is_opened_from_there(self, place):
        vat, _ = place.spawn(lambda: spawn(counter))
        vat.close()
        with pytest.raises(PersistenceError, match="spawn_persistent_vat"):
            vat.open()


# The pool has a worker for each core, and more of them only while turns take long.
WORKERS = os.cpu_count() or 1


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs Linux's /proc to see the threads")
def test_ten_thousand_idle_vats_are_small_and_have_no_threads():
    import resource

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def native_threads():
        return len(os.listdir("/proc/self/task"))

    # A worker may come, and those of before may go; no thread comes for a vat.
    before, threads = peak(), native_threads()
    vats = [Vat() for _ in range(10_000)]
    for vat in vats:
        vat.spawn(counter)
    assert peak() - before < 100_000
    assert native_threads() <= threads + WORKERS
    for vat in vats:
        vat.close()


def test_a_wait_in_a_turn_names_what_it_waits_for(vat):
    answer, resolver = promise_and_resolver()
    with vat, pytest.raises(GoblinsError, match="home"):
        answer.result()
    resolver.fulfil(None)


class Restless(Actor):
    """Tells itself, or another, again and again."""

    count: int = 0
    running: bool = True
    other: object = None

    def go(self):
        self.count += 1
        if self.running:
            tell((self.other or self.ref).go)

    def listen(self, _=None):
        self.count += 1
        if self.running:
            settled, resolver = promise_and_resolver()
            resolver.fulfil(None)
            on(settled, self.ref.listen)

    async def wait(self):
        while self.running:
            settled, resolver = promise_and_resolver()
            resolver.fulfil(None)
            await settled
            self.count += 1

    def stop(self, other=None):
        self.running, self.other = False, other
        return self.count

    def join(self, other):
        self.other = other

    def get(self):
        return self.count


RESTLESS = PersistenceEnv("test", Restless)


class TestChurnsWithoutEnd:
    @pytest.mark.parametrize(
        ("place", "method"),
        [
            ("in memory", "go"),
            ("in memory", "listen"),
            ("in memory", "wait"),
            ("in a store", "go"),
            ("saved by hand", "go"),
        ],
    )
    def test_others_are_served_meanwhile(self, place, method):
        if place == "in memory":
            vat = Vat("restless")
            ref = vat.spawn(Restless)
        else:
            persist_on = "manual" if place == "saved by hand" else "churn"
            vat, ref = spawn_persistent_vat(
                RESTLESS, lambda: spawn(Restless), MemoryStore(), persist_on=persist_on
            )
        endless = send(getattr(ref, method))
        # A call, a message, a turn of its own.
        seen = [ref.get(), send(ref.get).result(30), vat.run(lambda: ref.get())]
        assert 0 < seen[0] < seen[1] < seen[2]
        ref.stop()
        vat.drain(30)
        endless.result(30)
        vat.close()

    def test_a_call_that_begins_one_returns(self):
        vat = Vat("restless")
        ref = vat.spawn(Restless)
        with vat:
            ref.go()
        assert ref.stop() > 0
        vat.drain(30)
        vat.close()

    def test_two_actors_that_tell_each_other(self):
        vat = Vat("restless")
        ref, other = vat.spawn(Restless), vat.spawn(Restless)
        with vat:
            ref.join(other)
            other.join(ref)
        tell(ref.go)
        while not other.get():
            pass
        assert ref.get()
        with vat:
            ref.stop()
            other.stop()
        vat.drain(30)
        vat.close()

    def test_what_was_done_is_stored(self):
        store = MemoryStore()
        vat, ref = spawn_persistent_vat(RESTLESS, lambda: spawn(Restless), store)
        tell(ref.go)
        done = ref.get()
        vat.close()
        _, ref = spawn_persistent_vat(RESTLESS, lambda: spawn(Restless), store)
        assert ref.get() >= done > 0

    def test_a_save_by_hand_gets_in(self):
        store = MemoryStore()
        vat, ref = spawn_persistent_vat(RESTLESS, lambda: spawn(Restless), store, persist_on="manual")
        tell(ref.go)
        done = ref.get()
        vat.save()
        vat.close()
        _, ref = spawn_persistent_vat(RESTLESS, lambda: spawn(Restless), store)
        assert ref.get() >= done > 0

    def test_the_event_loop_goes_on(self):
        async def main():
            vat = AsyncioVat(name="restless")
            ref = vat.spawn(Restless)
            tell(ref.go)
            for _ in range(3):
                await asyncio.sleep(0)
            assert await send(ref.get)
            assert await vat.run_async(ref.stop)
            await vat.drain_async()
            vat.close()

        asyncio.run(main())

    def test_draining_a_manual_vat_stops_when_its_time_is_over(self, manual):
        ref = manual.spawn(Restless)
        tell(ref.go)
        with pytest.raises(TimeoutError):
            manual.drain(0.001)
        assert manual.step()
        assert manual.backlog == 1
        ref.stop()
        manual.drain(30)


class TestTurnsThatTakeLong:
    def test_other_vats_are_served_however_many_of_them_there_are(self):
        release = threading.Event()

        @actor
        def blocked(bcom):
            return lambda: release.wait(60)

        waiting = [send(Vat(f"blocked {n}", slow_turn=None).spawn(blocked)) for n in range(12)]
        vat = Vat("free")
        ticks = vat.spawn(counter)

        async def main():
            await send(ticks)
            return await vat.run_async(lambda: ticks())

        told = threading.Event()
        on_free = vat.spawn(caller)
        tell(on_free, told.set)
        assert asyncio.run(main()) == 1
        assert told.wait(30)
        assert not any(promise_is_settled(promise) for promise in waiting)
        release.set()
        assert all(promise.result(30) for promise in waiting)


def promise_is_settled(promise):
    try:
        promise.result(0)
    except TimeoutError:
        return False
    return True
