"""Ctrl-C at each moment at which the interpreter looks for signals, one after the other."""

import dis
import signal
import sys
import weakref
from functools import cache

signal.signal(signal.SIGINT, signal.default_int_handler)


@cache
def looks(code):
    """Where the interpreter looks for signals: where functions start, after calls, where loops go back."""
    if code.co_filename == weakref.__file__:
        # What comes up in callbacks of weak references is dropped by Python itself.
        return frozenset()
    places, looked = set(), False
    for instruction in dis.get_instructions(code):
        if looked or instruction.opname.startswith("JUMP_BACKWARD"):
            places.add(instruction.offset)
        looked = instruction.opname.startswith(("RESUME", "CALL"))
    return frozenset(places)


class Moment:
    """Traces a thread, and interrupts it at the moment with this number."""

    def __init__(self, number):
        self.left = number
        self.count = 0
        self.place = None

    def __call__(self, frame, event, _arg):
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and frame.f_lasti in looks(frame.f_code):
            self.count += 1
            if self.left == 0:
                self.place = f"{frame.f_code.co_filename}:{frame.f_lineno}, {frame.f_code.co_qualname}"
            self.left -= 1
            if self.left == -1:
                signal.raise_signal(signal.SIGINT)
        return self

    @property
    def came(self):
        return self.place is not None


def interrupted_at(number, do):
    """Does something with an interrupt at a moment. Gives that, and whether a KeyboardInterrupt came out."""
    moment = Moment(number)
    came_out = False
    try:
        sys.settrace(moment)
        try:
            do()
        finally:
            sys.settrace(None)
        # One that was put off comes now.
        for _ in range(100):
            pass
    except KeyboardInterrupt:
        came_out = True
    return moment, came_out


def count_moments(do):
    """How many there are."""
    return interrupted_at(-1, do)[0].count


def each(name, count, wanted):
    """The numbers of the moments that are wanted: "all"; "7", this one; "1/20", each twentieth from 1 on."""
    if wanted == "all":
        numbers = range(count)
    elif "/" in wanted:
        first, step = map(int, wanted.split("/"))
        numbers = range(first % step, count, step)
    else:
        numbers = [int(wanted)]
    for number in numbers:
        # The last one that it names is the one that failed.
        print(f"{name} {number}", flush=True)
        yield number
