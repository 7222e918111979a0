"""The package is taken out of `sys.modules`, and imported again."""

import sys

import goblins as first

for name in [name for name in sys.modules if name.partition(".")[0] == "goblins"]:
    del sys.modules[name]

import goblins as second  # noqa: E402

assert first is not second


class Shelf(second.Actor):
    items: second.List

    def __init__(self):
        self.items = second.List([1])

    def show(self):
        return list(self.items)


def caught(module):
    vat = module.Vat()
    vat.close()
    try:
        vat.run(lambda: None)
    except second.VatClosedError as error:
        return type(error).__name__


store = first.MemoryStore()
env = second.PersistenceEnv("test", Shelf)
vat, shelf = first.spawn_persistent_vat(env, lambda: first.spawn(Shelf), store)
shown = shelf.show()
vat.close()
vat, shelf = second.spawn_persistent_vat(env, lambda: 1, store)
print(caught(first), caught(second), shown, len([*shelf.show(), 2]))
