"""Makes a line of promises of the given length, each made of the one before, and sees it through."""

import gc
import logging
import sys
import threading

from goblins import ManualVat, Vat, all_of, on, promise_and_resolver, race, send, tell


def line(length, following):
    first, resolver = promise_and_resolver()
    last = first
    for _ in range(length):
        last = following(last)
    return resolver, last


def breaks(resolver, last):
    resolver.break_(KeyError("broken"))
    try:
        last.result(60)
    except KeyError:
        return
    raise AssertionError


def parts(vat, length):
    breaks(*line(length, lambda last: last["next"]))


def parts_in_a_turn(vat, length):
    breaks(*vat.run(lambda: line(length, lambda last: last["next"])))


def parts_with_values(vat, length):
    resolver, last = line(length, lambda last: last["next"])
    value = {}
    for _ in range(length):
        value = {"next": value}
    resolver.fulfil(value)
    assert last.result(60) == {}


def parts_settled_in_a_turn(vat, length):
    resolver, last = line(length, lambda last: last["next"])
    tell(vat.spawn(lambda bcom: lambda: resolver.break_(KeyError("broken"))))
    try:
        last.result(60)
    except KeyError:
        return
    raise AssertionError


def all(vat, length):
    breaks(*line(length, all_of))
    resolver, last = line(length, lambda last: all_of(last, 1)[1])
    resolver.fulfil(0)
    assert last.result(60) == 1


def races(vat, length):
    breaks(*line(length, race))
    resolver, last = line(length, race)
    resolver.fulfil(7)
    assert last.result(60) == 7


def races_in_a_turn(vat, length):
    breaks(*vat.run(lambda: line(length, race)))


def messages(vat, length):
    breaks(*line(length, lambda last: send(last.next)))


def messages_in_a_turn(vat, length):
    breaks(*vat.run(lambda: line(length, lambda last: send(last.next))))


def awaits(vat, length):
    async def wait(promise):
        return await promise

    waiter = vat.spawn(lambda bcom: wait)
    resolver, last = line(length, lambda last: send(waiter, last))
    resolver.fulfil(3)
    assert last.result(60) == 3


def listeners_whose_vat_is_closed(vat, length):
    """Each handler holds the right to settle the next promise."""

    def listen():
        pairs = [promise_and_resolver() for _ in range(length)]
        for (promise, _), (_, resolver) in zip(pairs, pairs[1:], strict=False):
            on(promise, lambda value, resolver=resolver: resolver.fulfil(value))
        return [pairs[0][1]]

    held = vat.run(listen)
    vat.close()
    held.clear()


def dropped(vat, length, following):
    resolver, last = line(length, following)
    del last
    del resolver


def dropped_parts(vat, length):
    dropped(vat, length, lambda last: last["next"])


def dropped_messages(vat, length):
    dropped(vat, length, lambda last: send(last.next))


def dropped_listeners(vat, length):
    vat.run(lambda: dropped(vat, length, on))


def dropped_by_the_collector(vat, length):
    """Nobody is left to settle the first, so that the line is taken apart from there."""
    manual = ManualVat()
    cycle = [send(manual.spawn(lambda bcom: lambda: 1))]
    cycle.append(cycle)
    last = cycle[0]
    for _ in range(length):
        last = last["next"]
    manual.close()
    del cycle, last, manual
    gc.collect()


def main(shape, length):
    logging.disable()
    vat = Vat()
    globals()[shape](vat, int(length))
    gc.collect()
    vat.close()
    print("done")


# Threads have less room than the main one. From 3.13 on CPython itself uses most of a megabyte to take apart
# dicts that are nested this deep; before, it goes down fifty levels at most.
nests = sys.argv[1] == "parts_with_values" and sys.version_info >= (3, 13)
threading.stack_size((2048 if nests else 512) * 1024)
thread = threading.Thread(target=main, args=sys.argv[1:])
thread.start()
thread.join()
