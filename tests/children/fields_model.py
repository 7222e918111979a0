"""Opens what programs have left in a store: all must be as it was, also after one more turn."""

import pickle
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fields_model import Model, fields, form, open_vat
from goblins import RocksStore

STEPS = [
    ("append", 0, [1]),
    ("add member", 1, "new"),
    ("update", 1, (1, [2])),
    ("record", 0, [3]),
    ("extend raw", 2, None),
]

path, expected = sys.argv[1:]
with RocksStore(path, sync=False) as store:
    for part, forms in pickle.loads(Path(expected).read_bytes()):
        vat, actors = open_vat(store.vat(part))
        for actor, known in zip(actors, forms, strict=True):
            got = form(actor.state())
            assert got == known, f"{part}:\n{got}\n{known}"
            model = Model()
            for name, value in zip(vars(model), actor.state(), strict=True):
                setattr(model, name, value)
            with vat:
                for step in STEPS:
                    actor.run(step)
                    model.run(step)
            changed = form(fields(model.copy()))
            assert form(actor.state()) == changed, part
            vat.close()
            vat, actors = open_vat(store.vat(part))
            break
        assert form(actors[0].state()) == changed, part
        for actor, known in zip(actors[1:], forms[1:], strict=True):
            got = form(actor.state())
            assert got == known, f"{part}:\n{got}\n{known}"
        vat.close()
