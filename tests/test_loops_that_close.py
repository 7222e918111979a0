"""An AsyncioVat whose loop is closed is closed too: whoever waits for it is told."""

import asyncio
import threading

import pytest
from goblins import (
    AsyncioVat,
    MemoryStore,
    PersistenceEnv,
    Vat,
    VatClosedError,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)
from support import caller, counter

ENV = PersistenceEnv("test", counter)


def vat_of_a_closed_loop(constructor=counter):
    async def main():
        vat = AsyncioVat(name="gone")
        return vat, vat.spawn(constructor)

    return asyncio.run(main())


@pytest.mark.parametrize(
    "use",
    [
        lambda vat, ticks: ticks(),
        lambda vat, ticks: vat.run(ticks),
        lambda vat, ticks: vat.spawn(counter),
        lambda vat, ticks: vat.drain(),
        lambda vat, ticks: send(ticks).result(30),
        lambda vat, ticks: asyncio.run(waited_for(send(ticks))),
        lambda vat, ticks: asyncio.run(waited_for(vat.run_async(ticks))),
    ],
    ids=["call", "run", "spawn", "drain", "send", "await", "run_async"],
)
def test_whatever_is_asked_of_it_is_refused(use):
    vat, ticks = vat_of_a_closed_loop()
    with pytest.raises(VatClosedError, match="gone"):
        use(vat, ticks)
    with pytest.raises(VatClosedError, match="gone"):
        send(ticks).result(30)


async def waited_for(awaitable):
    return await awaitable


def test_a_message_that_nobody_waits_for_is_logged(caplog):
    _, ticks = vat_of_a_closed_loop()
    tell(ticks)
    assert "not delivered" in caplog.text


def test_one_who_calls_while_the_loop_ends_is_told():
    """The call has reached the loop, which is closed before it comes to it."""
    loop = asyncio.new_event_loop()
    ended = threading.Event()
    vats = []

    async def begin():
        vat = AsyncioVat(name="gone")
        vats.extend((vat, vat.spawn(counter), vat.spawn(caller)))

    loop.run_until_complete(begin())
    _, ticks, call = vats
    answers = []

    def ask(question):
        try:
            answers.append(question())
        except VatClosedError as error:
            answers.append(str(error))

    entered, leave = threading.Event(), threading.Event()

    def hold_and_stop():
        entered.set()
        leave.wait(60)
        loop.stop()

    def run():
        loop.call_soon(hold_and_stop)
        loop.run_forever()
        loop.close()
        ended.set()

    runner = threading.Thread(target=run)
    runner.start()
    entered.wait(60)
    pushed = threading.Semaphore(0)
    original = loop.call_soon_threadsafe

    def call_soon_threadsafe(*args, **kwargs):
        handle = original(*args, **kwargs)
        pushed.release()
        return handle

    loop.call_soon_threadsafe = call_soon_threadsafe
    questions = [ticks, lambda: send(ticks).result(60), lambda: call(len, "text")] * 4
    askers = [threading.Thread(target=ask, args=(question,)) for question in questions]
    for asker in askers:
        asker.start()
    for _ in range(9):
        pushed.acquire(timeout=60)
    leave.set()
    for asker in askers:
        asker.join(60)
        assert not asker.is_alive()
    runner.join()
    assert ended.is_set()
    assert len(answers) == len(questions)
    assert all("gone" in answer for answer in answers)


def test_its_part_of_the_store_can_be_opened_by_another_vat():
    store = MemoryStore()

    async def main():
        return spawn_persistent_vat(ENV, lambda: spawn(counter), store, vat_constructor=AsyncioVat)

    _, ticks = asyncio.run(main())
    with pytest.raises(VatClosedError):
        send(ticks).result(30)
    vat, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
    assert ticks() == 0
    vat.close()


def test_a_turn_of_another_vat_that_sends_there_goes_on(vat):
    _, ticks = vat_of_a_closed_loop()
    answers = []

    def ask(bcom):
        async def asked():
            try:
                await send(ticks)
            except VatClosedError as error:
                answers.append(str(error))
            return "done"

        return asked

    assert send(vat.spawn(ask)).result(30) == "done"
    assert "gone" in answers[0]


class TestAnAsyncMessageThatIsCutOff:
    def test_is_logged_at_once_with_the_name_of_its_actor_if_nobody_waits(self, caplog):
        vat = Vat("cut")
        promise, resolver = promise_and_resolver()

        def waiter(bcom):
            async def wait():
                await promise

            return wait

        tell(vat.spawn(waiter))
        vat.drain(30)
        vat.close()
        [record] = caplog.records
        assert "waiter" in record.getMessage()
        assert record.exc_info[0] is VatClosedError
        resolver.fulfil(None)
        assert len(caplog.records) == 1

    def test_is_not_logged_if_somebody_waits(self, caplog):
        vat = Vat("cut")
        promise, resolver = promise_and_resolver()

        def waiter(bcom):
            async def wait():
                await promise

            return wait

        answer = send(vat.spawn(waiter))
        vat.drain(30)
        vat.close()
        with pytest.raises(VatClosedError):
            answer.result(30)
        resolver.fulfil(None)
        assert not caplog.records
