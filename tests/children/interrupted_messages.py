"""Is interrupted by Ctrl-C while the main thread handles a message, in the way it is told."""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

from goblins import (
    Actor,
    AsyncioVat,
    ManualVat,
    PersistenceEnv,
    RocksStore,
    Vat,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
    to_thread,
)

signal.signal(signal.SIGINT, signal.default_int_handler)
main = threading.get_ident()
interrupts = 1


class Account(Actor):
    total: int = 0
    own: int = 0

    def add(self, amount):
        self.total += amount
        interrupt()
        return self.total

    def tells(self, amount):
        self.own += 1
        tell(self.ref.add, amount)
        tell(self.ref.add, amount)

    async def waits(self, amount):
        await to_thread(int)
        self.total += amount
        interrupt()

    def get(self):
        return self.total, self.own


def interrupt():
    """Ctrl-C, once and only on the main thread."""
    global interrupts
    if interrupts and threading.get_ident() == main:
        interrupts -= 1
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass


def is_interrupted(do):
    try:
        do()
    except KeyboardInterrupt:
        return
    raise AssertionError("no KeyboardInterrupt")


how, folder = sys.argv[1], Path(sys.argv[2])
heard = []
if how == "stored":
    store = RocksStore(folder / "s")
    vat, account = spawn_persistent_vat(PersistenceEnv("test", Account), lambda: spawn(Account), store)
else:
    vat = (ManualVat if how.startswith("manual") else Vat)()
    account = vat.spawn(Account)


def block():
    with vat:
        tell(account.add, 1)


def handler():
    promise, resolver = promise_and_resolver()
    resolver.fulfil(5)

    def add(value):
        account.add(value)

    with vat:
        on(promise, add)


match how:
    case "block":
        is_interrupted(block)
        vat.drain(timeout=30)
        assert account.get() == (1, 0)
    case "stored":
        is_interrupted(block)
        vat.drain(timeout=30)
        vat.close()
        store.close()
        with RocksStore(folder / "s") as again:
            env = PersistenceEnv("test", Account)
            assert spawn_persistent_vat(env, lambda: spawn(Account), again)[1].get() == (1, 0)
    case "call":
        # The call itself was done, and of its messages the first is done again.
        is_interrupted(lambda: account.tells(1))
        vat.drain(timeout=30)
        assert account.get() == (2, 1)
    case "handler":
        is_interrupted(handler)
        vat.drain(timeout=30)
        assert account.get() == (5, 0)
    case "manual step" | "manual drain":
        answer = send(account.add, 1)
        tell(account.add, 10)
        is_interrupted(vat.step if how == "manual step" else vat.drain)
        assert vat.backlog == 2
        assert account.get() == (0, 0)
        assert vat.step()
        assert answer.result(timeout=30) == 1
        vat.drain()
        assert account.get() == (11, 0)
    case "result":
        promises = [send(account.add, 1) for _ in range(3)]
        try:
            promises[-1].result(timeout=30)
        except KeyboardInterrupt:
            pass
        assert promises[-1].result(timeout=30) == 3
    case "manual coroutine":
        answer = send(account.waits, 1)

        def drain():
            while interrupts:
                vat.drain()

        is_interrupted(drain)
        try:
            answer.result(timeout=30)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError("the code that was interrupted has an answer")
        assert account.get() == (0, 0)
    case "loop":

        async def run():
            global loop_vat, loop_account, answer
            loop_vat = AsyncioVat()
            loop_account = loop_vat.spawn(Account)
            answer = send(loop_account.add, 1)
            await asyncio.sleep(30)

        loop = asyncio.new_event_loop()
        is_interrupted(lambda: loop.run_until_complete(run()))

        async def wait():
            return await answer

        assert loop.run_until_complete(wait()) == 1
    case "loop that awaits" | "loop in its round":
        # Once it is known that they are quick, the messages are handled by the loop of the main thread.
        sent = 0

        async def run():
            global sent
            while interrupts:
                sent += 1
                if how == "loop that awaits":
                    await send(account.add, 1)
                else:
                    tell(account.add, 1)
                    await send(account.get)
                await asyncio.sleep(0)

        loop = asyncio.new_event_loop()
        is_interrupted(lambda: loop.run_until_complete(run()))
        vat.drain(timeout=30)
        assert account.get() == (sent, 0)

        async def wait():
            return await send(account.add, 1)

        assert loop.run_until_complete(wait()) == sent + 1
    case "raised":
        # Whoever raises it himself gets what he gets for any error.
        interrupts = 0

        def raises(bcom):
            def behavior():
                raise KeyboardInterrupt

            return behavior

        def on_a_thread():
            try:
                send(vat.spawn(raises)).result(timeout=30)
            except KeyboardInterrupt:
                heard.append("raised")

        thread = threading.Thread(target=on_a_thread)
        thread.start()
        thread.join()
        assert heard == ["raised"]
    case _:
        raise SystemExit(f"no such way: {how}")
print("done", flush=True)
