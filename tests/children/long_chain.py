"""Makes a chain of promises of the given length, in one of several shapes, and sees it through."""

import sys
from itertools import pairwise

from goblins import Vat, on, promise_and_resolver, send


def forwards(vat, length):
    """Each is fulfilled with the next, and the last one with a value."""
    pairs = [promise_and_resolver() for _ in range(length)]
    for (_, resolver), (following, _) in pairwise(pairs):
        resolver.fulfil(following)
    pairs[-1][1].fulfil("end")
    assert pairs[0][0].result(60) == "end"


def backwards(vat, length):
    """As above, all in one turn, the last link first."""
    with vat:
        pairs = [promise_and_resolver() for _ in range(length)]
        links = list(pairwise(pairs))
        for (_, resolver), (following, _) in reversed(links):
            resolver.fulfil(following)
        pairs[-1][1].fulfil("end")
    assert pairs[0][0].result(60) == "end"


def derived(vat, length):
    """Each is what `on` gave for the one before."""
    promise, resolver = promise_and_resolver()
    first = promise
    with vat:
        for _ in range(length):
            promise = on(promise, lambda n: n + 1)
    resolver.fulfil(0)
    assert promise.result(60) == length
    assert first.result(60) == 0


def dropped(vat, length):
    """A chain that is let go before it is settled, so that it is taken apart from its head."""
    pairs = [promise_and_resolver() for _ in range(length)]
    for (_, resolver), (following, _) in pairwise(pairs):
        resolver.fulfil(following)
    head = pairs[0][0]
    del pairs, resolver, following
    del head


def answers(vat, length):
    """Each message is sent to the answer of the one before."""
    me = []
    me.append(vat.spawn(lambda bcom: lambda: me[0]))
    answer = send(me[0])
    for _ in range(length):
        answer = send(answer)
    assert answer.result(60) is me[0]


def main(shape, length):
    vat = Vat()
    globals()[shape](vat, int(length))
    vat.close()
    print("done")


main(*sys.argv[1:])
