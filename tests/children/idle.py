"""Waits for two seconds in every way at once, and prints how much CPU time that has cost."""

import asyncio
import resource
import threading

from goblins import AsyncioVat, Vat, promise_and_resolver, send

PAUSE = 2.0


def cpu_time():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def main():
    gate, opener = promise_and_resolver()

    def waiter(bcom):
        async def wait():
            return await gate

        return wait

    vat, looped = Vat(), AsyncioVat()
    waits = [gate, send(vat.spawn(waiter)), send(looped.spawn(waiter))]
    answers = []
    thread = threading.Thread(target=lambda: answers.append(gate.result()))
    thread.start()

    async def wait(promise):
        return await promise

    tasks = [asyncio.create_task(wait(promise)) for promise in waits]
    await asyncio.sleep(0.1)
    before = cpu_time()
    await asyncio.sleep(PAUSE)
    used = cpu_time() - before
    opener.fulfil("open")
    assert await asyncio.gather(*tasks) == ["open"] * 3
    thread.join()
    assert answers == ["open"]
    print(used)


asyncio.run(main())
