"""An async behavior that can't go on runs its `finally` in a turn of its own or in none, never in another."""

import gc
import sys

import pytest
from goblins import Actor, NoTurnError, PersistenceEnv, Vat, promise_and_resolver, send, spawn, tell
from support import Boom, collect, counter, failing_turn


@pytest.fixture
def unraisable(monkeypatch):
    """What Python could not raise, since it happened where nobody waits."""
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda hooked: seen.append(hooked.exc_value))
    return seen


class Worker(Actor):
    busy: bool = False
    file: object = None

    async def work(self, promise):
        self.busy = True
        try:
            await promise
        finally:
            self.busy = False

    async def work_and_fail(self, promise):
        try:
            self.file = lambda: "can't be stored"
            await promise
        finally:
            self.busy = False

    async def work_in_a_ring(self, done):
        promise, resolver = promise_and_resolver()
        ring = [resolver]
        ring.append(ring)
        try:
            await promise
        finally:
            done.append(self.ref)
            self.busy = False

    def be_busy(self):
        self.busy = True

    def is_busy(self):
        return self.busy


ENV = PersistenceEnv("test", Worker)


class TestOneThatNothingRefersToAnyMore:
    def test_whose_stretch_was_undone_is_closed_in_a_turn_of_its_own(self, place, unraisable):
        vat, worker = place.spawn(lambda: spawn(Worker), env=ENV)
        worker.be_busy()
        promise, _resolver = promise_and_resolver()
        with pytest.raises(TypeError, match="can't be stored"):
            send(worker.work_and_fail, promise).result(30)
        vat.drain(30)
        assert not worker.is_busy()
        assert not unraisable

    def test_in_a_vat_that_closes_is_closed_in_no_turn(self, other_vat, unraisable):
        vat = Vat()
        worker = vat.spawn(Worker)
        waits = promise_and_resolver()
        tell(worker.work, waits[0])
        vat.drain(30)
        vat.close()
        ticks = other_vat.spawn(counter)
        with other_vat:
            ticks()
            del waits
            collect()
        assert ticks() == 1
        assert [type(error) for error in unraisable] == [NoTurnError]


class TestOneThatTheCollectorFinds:
    @pytest.mark.parametrize("home", ["same", "other"])
    def test_has_nothing_to_do_with_the_turn_in_which_that_happens(self, vat, other_vat, unraisable, home):
        worker = vat.spawn(Worker)
        worker.be_busy()
        done = []
        tell(worker.work_in_a_ring, done)
        vat.drain(30)
        with vat if home == "same" else other_vat:
            gc.collect()
        assert done == [worker]
        assert worker.is_busy()
        assert [type(error) for error in unraisable] == [NoTurnError]

    def test_may_send_messages_that_are_delivered_whatever_comes_of_that_turn(self, vat, unraisable):
        ticks = vat.spawn(counter)

        def waiter(bcom):
            async def wait():
                promise, resolver = promise_and_resolver()
                ring = [resolver]
                ring.append(ring)
                try:
                    await promise
                finally:
                    tell(ticks)

            return wait

        tell(vat.spawn(waiter))
        vat.drain(30)
        with failing_turn(vat):
            gc.collect()
            raise Boom
        vat.drain(30)
        assert ticks() == 1
        assert not unraisable

    def test_can_not_enter_a_vat_in_the_midst_of_a_turn(self, vat, other_vat, unraisable):
        ticks = other_vat.spawn(counter)

        def waiter(bcom):
            async def wait():
                promise, resolver = promise_and_resolver()
                ring = [resolver]
                ring.append(ring)
                try:
                    await promise
                finally:
                    ticks()

            return wait

        def begin():
            tell(vat.spawn(waiter))
            vat.drain(30)

        begin()
        with vat:
            gc.collect()
        assert [type(error) for error in unraisable] == [NoTurnError]
        begin()
        gc.collect()
        assert ticks() == 1
