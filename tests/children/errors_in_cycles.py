"""Breaks a promise with an error whose traceback leads to the promise, and lets the collector find both."""

import asyncio
import gc
import io
import logging
import sys

from goblins import Vat, on, promise_and_resolver

GOBLINS = logging.getLogger("goblins")
KEPT = []
BROUGHT_BACK = []


def broken_with(error):
    promise, resolver = promise_and_resolver()
    resolver.break_(error)
    return promise


def raised():
    try:
        raise ValueError("no number")
    except ValueError as error:
        promise = broken_with(error)
        return promise is None


def raised_in_c():
    try:
        int("no number")
    except ValueError as error:
        promise = broken_with(error)
        return promise is None


def raised_from_another():
    try:
        try:
            raise KeyError("cause")
        except KeyError as cause:
            raise ValueError("no number") from cause
    except ValueError as error:
        promise = broken_with(error)
        return promise is None


def with_a_text_of_its_own():
    class Failure(Exception):
        def __str__(self):
            return f"no number {self.args[0]}"

    try:
        raise Failure("at all")
    except Failure as error:
        promise = broken_with(error)
        return promise is None


def of_the_system():
    try:
        open("/no number")  # noqa: SIM115
    except OSError as error:
        promise = broken_with(error)
        return promise is None


def in_a_group():
    try:
        raise ExceptionGroup("no number", [ValueError(1), KeyError(2)])
    except ExceptionGroup as error:
        promise = broken_with(error)
        return promise is None


def in_a_handler():
    def handle(_):
        raised()

    with Vat() as vat:
        on(None, handle)
    vat.close()


def in_a_task():
    async def work():
        try:
            raise ValueError("no number")
        except ValueError as error:
            promise = broken_with(error)
            await asyncio.sleep(0 if promise else 1)

    asyncio.run(work())


def with_the_logger_disabled():
    GOBLINS.disabled = True
    for _ in range(1000):
        raised()


def with_a_handler_that_keeps_all():
    class Keep(logging.Handler):
        def emit(self, record):
            KEPT.append(record.exc_info)

    GOBLINS.addHandler(Keep())
    raised()


def many():
    for _ in range(1000):
        raised()


class Back:
    """Brings what it holds back, when the collector finds it."""

    def __init__(self, held):
        self.held = held
        self.me = self

    def __del__(self):
        BROUGHT_BACK.append(self.held)


def brought_back():
    """The collector announces the end of an object once."""
    promise, resolver = promise_and_resolver()
    Back([promise, resolver])
    del promise, resolver
    gc.collect()
    promise, resolver = BROUGHT_BACK.pop()

    def ask(held):
        try:
            raise ValueError("no number")
        except ValueError as error:
            resolver.break_(error)
            return held is None

    ask(promise)


def main(how):
    out = io.StringIO()
    GOBLINS.addHandler(logging.StreamHandler(out))
    globals()[how]()
    gc.collect()
    for _, error, traceback in KEPT:
        assert str(error) == "no number"
        assert traceback.tb_frame.f_code.co_name == "raised"
    KEPT.clear()
    gc.collect()
    print(out.getvalue())


main(sys.argv[1])
