"""Turns in which one request for memory fails, each time another one. Each must have happened, or not."""

import _testcapi
import sys

from goblins import Actor, Vat, field


class Many(Actor):
    count: int = 0
    items: list = field(default_factory=list)
    members: set = field(default_factory=set)
    entries: dict = field(default_factory=dict)
    last: list = field(default_factory=list)

    def add(self):
        self.count += 1
        self.items.append(self.count)
        self.members.add(self.count)
        self.entries[self.count] = [self.count]
        self.last.append(self.count)

    def fail(self):
        self.add()
        raise LookupError

    def look(self):
        return self.count, self.items, self.members, self.entries, self.last


vat = Vat(slow_turn=None)
many = vat.spawn(Many)
many.add()
answers = set()
for number in range(2 * int(sys.argv[1])):
    turn = [many.add, many.fail][number % 2]
    _testcapi.set_nomemory(number // 2, number // 2 + 1)
    try:
        turn()
    except BaseException as error:
        _testcapi.remove_mem_hooks()
        answers.add(type(error).__name__)
    else:
        _testcapi.remove_mem_hooks()
        answers.add("done")
    count, *held = many.look()
    all = [*range(1, count + 1)]
    assert held == [all, {*all}, {key: [key] for key in all}, all], (number, count, held)
assert answers >= {"MemoryError", "LookupError", "done"}, answers
print("all or nothing")
