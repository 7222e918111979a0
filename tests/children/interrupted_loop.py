"""Waits in asyncio, in the way it is told, for something that never comes, until it is interrupted."""

import asyncio
import signal
import sys
import threading

from goblins import Vat, promise_and_resolver

# It is ignored where the tests run in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
vat = Vat()
entered, leave = threading.Event(), threading.Event()
tasks = []


def busy():
    entered.set()
    leave.wait()


async def in_a_block_of_a_busy_vat():
    async with vat:
        # Whichever thread takes a signal, the loop wakes.
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, int)
        tasks.append(asyncio.ensure_future(say_when_it_is_closed()))


async def say_when_it_is_closed():
    while not vat.closed:
        await asyncio.sleep(0)
    print("closing", flush=True)


async def in_a_block():
    async with Vat():
        await promise


promise, resolver = promise_and_resolver()
waits = {
    "promise": lambda: promise,
    "run_async": lambda: vat.run_async(len, "text"),
    "drain_async": lambda: vat.drain_async(),
    "close_async": lambda: vat.close_async(),
    "block": in_a_block,
    "busy": in_a_block_of_a_busy_vat,
}


async def main():
    threading.Thread(target=vat.run, args=(busy,), daemon=True).start()
    entered.wait()
    asyncio.get_running_loop().call_soon(lambda: print("waiting", flush=True))
    await waits[sys.argv[1]]()


try:
    asyncio.run(main())
except KeyboardInterrupt:
    # Another thread is in the vat still: that must not keep the process from ending.
    print("interrupted", flush=True)
