"""Waits, in the way it is told, for something that never comes, until it is interrupted."""

import signal
import sys
import threading

from goblins import Vat, promise_and_resolver, tell

# It is ignored where the tests run in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
vat = Vat()
entered, leave = threading.Event(), threading.Event()


def say(text):
    print(text, flush=True)


def make_busy():
    """Another thread is in the vat, and stays there."""

    def busy():
        entered.set()
        leave.wait()

    threading.Thread(target=vat.run, args=(busy,), daemon=True).start()
    entered.wait()


def block():
    with vat:
        pass


def spin():
    while True:
        pass


ref = vat.spawn(lambda bcom: lambda: None)
state = vat.spawn(lambda bcom: lambda: bcom(lambda: "changed"))


def change_and_spin():
    state()
    say("waiting")
    spin()


promise, resolver = promise_and_resolver()

waits = {
    "result": promise.result,
    "result_with_timeout": lambda: promise.result(timeout=1e6),
    "call": ref,
    "run": lambda: vat.run(lambda: None),
    "block": block,
    "drain": vat.drain,
    "close": vat.close,
}

how = sys.argv[1]
try:
    if how == "behavior":
        vat.run(change_and_spin)
    if not how.startswith("result"):
        make_busy()
    if how == "drain":
        tell(ref)
    say("waiting")
    waits[how]()
except KeyboardInterrupt:
    if how == "behavior":
        assert state() is None
        assert state() == "changed"
    say("interrupted")
leave.set()
