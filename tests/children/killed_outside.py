"""Opens a shop whose work outside kills the process, and says what it finds there."""

import asyncio
import os
import signal
import sys

from goblins import (
    Actor,
    AsyncioVat,
    ManualVat,
    PersistenceEnv,
    RocksStore,
    Vat,
    from_awaitable,
    on,
    promise_and_resolver,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
    to_thread,
)


def charge():
    os.kill(os.getpid(), signal.SIGKILL)


async def charge_on_loop():
    charge()


class Shop(Actor):
    status: str = "cart"

    def start(self, loop):
        self.status = "paying"
        return to_thread(charge) if loop is None else from_awaitable(charge_on_loop(), loop)

    async def buy(self, loop):
        await self.start(loop)

    async def buy_later(self, loop):
        promise, resolver = promise_and_resolver()
        resolver.fulfil(None)
        await promise
        await self.start(loop)

    def listen(self, loop):
        promise, resolver = promise_and_resolver()
        on(promise, lambda _: self.start(loop))
        resolver.fulfil(None)

    def read(self):
        return self.status


def block(vat, shop, loop):
    with vat:
        shop.start(loop)


async def manual(vat, shop, loop):
    tell(shop.buy, loop)
    await asyncio.to_thread(vat.step)
    await asyncio.sleep(60)


WAYS = {
    "async": lambda vat, shop, loop: send(shop.buy, loop),
    "late": lambda vat, shop, loop: send(shop.buy_later, loop),
    "plain": lambda vat, shop, loop: send(shop.start, loop),
    "on": lambda vat, shop, loop: send(shop.listen, loop),
    "call": lambda vat, shop, loop: asyncio.to_thread(shop.start, loop),
    "run": lambda vat, shop, loop: asyncio.to_thread(vat.run, shop.start, loop),
    "with": lambda vat, shop, loop: asyncio.to_thread(block, vat, shop, loop),
    "step": manual,
}
KINDS = {"pool": Vat, "manual": ManualVat, "asyncio": AsyncioVat}


async def main(path, kind, way, how, sync, persist_on):
    store = RocksStore(path, sync=sync == "sync")
    vat, shop = spawn_persistent_vat(
        PersistenceEnv("shop", Shop),
        lambda: spawn(Shop),
        store,
        vat_constructor=KINDS[kind],
        persist_on=persist_on,
    )
    print(shop.read(), flush=True)
    if way != "read":
        await WAYS[way](vat, shop, asyncio.get_running_loop() if how == "loop" else None)
        await asyncio.sleep(60)


asyncio.run(main(*sys.argv[1:]))
