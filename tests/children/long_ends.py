"""Makes a line of actors of the given length, each of which holds the next, and lets go of the first."""

import gc
import sys
import threading

from goblins import (
    Actor,
    MemoryStore,
    PersistenceEnv,
    Vat,
    actor,
    all_of,
    promise_and_resolver,
    spawn,
    spawn_persistent_vat,
)


class Node(Actor):
    next: object = None

    def get(self):
        return self.next

    def cut(self):
        self.next = None


@actor
def node(bcom, following=None):
    return lambda: following


ENV = PersistenceEnv("ends", Node, node)


def line(length, make):
    last = None
    for _ in range(length):
        last = make(last)
    return [last]


def restored(length, constructor, following):
    """They come from their records, one by one, and may not be shown to the collector."""
    store = MemoryStore()
    vat, _ = spawn_persistent_vat(
        ENV, lambda: spawn(Node, line(length, lambda last: spawn(constructor, last))[0]), store
    )
    vat.close()
    vat, first = spawn_persistent_vat(ENV, lambda: 1 / 0, store)

    def walk():
        held = first.get()
        while held is not None:
            held = following(held)

    vat.run(walk)
    first.cut()
    return [vat, first]


def fulfilled(value):
    promise, resolver = promise_and_resolver()
    resolver.fulfil(value)
    return promise


SHAPES = {
    "instances": lambda length: line(length, lambda last: spawn(Node, last)),
    "instances_with_lists": lambda length: line(length, lambda last: spawn(Node, [last])),
    "functions": lambda length: line(length, lambda last: spawn(node, last)),
    "functions_without_portraits": lambda length: line(length, lambda last: spawn(lambda bcom: lambda: last)),
    "messages": lambda length: line(length, lambda last: spawn(node, last).method),
    "promises_of_actors": lambda length: line(length, lambda last: fulfilled(spawn(node, last))),
    "promises_in_tuples": lambda length: line(length, lambda last: fulfilled((last,))),
    "promises_in_dicts": lambda length: line(length, lambda last: fulfilled({"last": last})),
    "promises_of_several": lambda length: line(length, lambda last: all_of(1, [last])),
}


def main(shape, how, length):
    vat = Vat()
    if shape == "restored_instances":
        held = restored(int(length), Node, lambda one: one.get())
    elif shape == "restored_functions":
        held = restored(int(length), node, lambda one: one())
    else:
        held = vat.run(SHAPES[shape], int(length))
    if how == "collector":
        held.append(held)
    else:
        gc.disable()
    del held
    gc.collect()
    vat.close()
    print("done")


# Threads have less room than the main one.
threading.stack_size(512 * 1024)
thread = threading.Thread(target=main, args=sys.argv[1:])
thread.start()
thread.join()
