"""Stores values that are nested deeper and deeper; each is refused cleanly or comes back as it was."""

from goblins import (
    Actor,
    MemoryStore,
    NotPortableError,
    PersistenceEnv,
    Vat,
    actor,
    methods,
    spawn,
    spawn_persistent_vat,
)


@actor
def cell(bcom, value=None):
    return methods(get=lambda: value, put=lambda new: bcom(cell(bcom, new)))


class Box(Actor):
    value: object = None

    def get(self):
        return self.value

    def put(self, new):
        self.value = new


ENV = PersistenceEnv("test", cell)


def nest(wrap, depth):
    value = "core"
    for _ in range(depth):
        value = wrap(value)
    return value


def depth_of(value):
    depth = 0
    while type(value) is not str:
        (value,) = value.values() if type(value) is dict else value
        depth += 1
    return depth


def main():
    for wrap in (lambda v: [v], lambda v: (v,), lambda v: {"k": v}, lambda v: frozenset([v])):
        for depth in (10, 100, 1_000, 10_000, 100_000, 1_000_000):
            with MemoryStore() as store:
                vat, box = spawn_persistent_vat(ENV, lambda: spawn(cell), store)
                try:
                    box.put(nest(wrap, depth))
                except NotPortableError:
                    assert depth > 100, "that is not deep"
                    assert box.get() is None
                    continue
                vat.close()
                _, box = spawn_persistent_vat(ENV, lambda: 1 / 0, store)
                assert depth_of(box.get()) == depth
    in_a_field()
    print("done")


def in_a_field():
    """What goes into a field is copied, and what comes out."""
    box = Vat().spawn(Box)
    for depth in (10, 100, 1_000, 10_000, 100_000, 1_000_000):
        value = nest(lambda v: [v], depth)
        try:
            box.put(value)
        except NotPortableError:
            assert depth > 1_000, "that is not deep"
            continue
        assert depth_of(box.get()) == depth


main()
