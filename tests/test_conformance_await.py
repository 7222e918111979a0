"""What the original does with await, as far as no other test shows it: see docs/conformance.md."""

import pytest
from goblins import NoTurnError, Promise, methods, on, promise_and_resolver, send, spawn, to_thread
from support import Boom, cell, counter


def waiter(bcom, box):
    async def wait(promise):
        box.put("waiting")
        value = await promise
        box.put(value)
        return "done"

    return wait


def test_only_the_innermost_call_is_suspended(vat):
    """AWT-08: the caller goes on with a promise, and its turn ends."""
    box = vat.spawn(cell)
    waits = vat.spawn(waiter, box)
    promise, resolver = vat.run(promise_and_resolver)

    def asker(bcom):
        def ask():
            answer = waits(promise)
            return type(answer), box.get(), answer

        return ask

    kind, seen, answer = vat.spawn(asker)()
    assert (kind, seen) == (Promise, "waiting")
    with pytest.raises(TimeoutError):
        answer.result(timeout=0)
    resolver.fulfil("settled")
    assert answer.result(timeout=30) == "done"
    assert box.get() == "settled"


def test_a_caller_may_wait_for_the_one_it_has_called(vat):
    """AWT-08"""
    waits = vat.spawn(waiter, vat.spawn(cell))
    promise, resolver = vat.run(promise_and_resolver)

    def asker(bcom):
        async def ask():
            return [await waits(promise), await waits(promise)]

        return ask

    answer = send(vat.spawn(asker))
    resolver.fulfil(None)
    assert answer.result(timeout=30) == ["done", "done"]


def test_send_and_await_are_one_expression(vat, other_vat):
    """AWT-02"""
    ticks = other_vat.spawn(counter)

    def asker(bcom):
        async def ask():
            return await send(ticks) + await send(ticks)

        return ask

    assert send(vat.spawn(asker)).result(timeout=30) == 1


def test_an_error_can_be_caught_and_the_behavior_goes_on(vat):
    """AWT-07"""
    promise, resolver = vat.run(promise_and_resolver)

    def careful(bcom):
        async def behavior():
            try:
                await promise
            except Boom as error:
                return await send(spawn(counter, 7)), str(error)

        return behavior

    answer = send(vat.spawn(careful))
    resolver.break_(Boom("caught"))
    assert answer.result(timeout=30) == (7, "caught")


def test_state_that_is_read_after_a_wait_may_have_changed(vat):
    """AWT-12"""
    box = vat.spawn(cell, "before")
    promise, resolver = vat.run(promise_and_resolver)

    def reader(bcom):
        async def read():
            before = box.get()
            await promise
            return before, box.get()

        return read

    answer = send(vat.spawn(reader))
    vat.drain(timeout=30)
    box.put("meanwhile")
    resolver.fulfil(None)
    assert answer.result(timeout=30) == ("before", "meanwhile")


def test_work_on_a_thread_of_its_own_is_in_no_turn(vat):
    """AWT-11: there a call is a turn of its own."""
    ticks = vat.spawn(counter)

    def work():
        with pytest.raises(NoTurnError):
            spawn(counter)
        with pytest.raises(NoTurnError):
            on(None)
        return ticks()

    def asker(bcom):
        async def ask():
            return await to_thread(work)

        return ask

    assert send(vat.spawn(asker)).result(timeout=30) == 0
    assert ticks() == 1


def test_what_is_suspended_is_not_stored(memory):
    """AWT-13: after an opening the actor is there, and nothing of what waited."""

    vat, box = memory.spawn(lambda: spawn(cell, "before"))
    promise, resolver = vat.run(promise_and_resolver)
    answer = send(vat.spawn(waiter, box), promise)
    vat.drain(timeout=30)
    vat, box = memory.restart(vat)
    with pytest.raises(RuntimeError, match="closed"):
        answer.result(timeout=30)
    resolver.fulfil("after")
    vat.drain(timeout=30)
    assert box.get() == "waiting"
    vat.close()


def test_each_stretch_sends_when_it_ends(vat):
    """AWT-05"""
    seen = []
    notes = vat.spawn(lambda bcom: methods(note=seen.append))
    promise, resolver = vat.run(promise_and_resolver)

    def behavior(bcom):
        async def run():
            send(notes.note, "first")
            await promise
            send(notes.note, "undone")
            raise Boom

        return run

    answer = send(vat.spawn(behavior))
    vat.drain(timeout=30)
    assert seen == ["first"]
    resolver.fulfil(None)
    with pytest.raises(Boom):
        answer.result(timeout=30)
    vat.drain(timeout=30)
    assert seen == ["first"]
