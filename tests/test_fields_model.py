"""Values of all kinds in fields, changed in all ways, against a model of deep copies (G1, G6, G8).

Turns fail or succeed, actors sleep, vats are opened again with classes made anew. In the end new processes
open all that was left behind, go on with it, and find the same as the model. `GOBLINS_PROGRAMS=10000` runs so
many.
"""

import os
import pickle

from fields_model import Model, fields, form, open_vat, programs
from goblins import RocksStore
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from support import Boom, run_child

PROGRAMS = int(os.environ.get("GOBLINS_PROGRAMS", "30"))
# How many programs are left for one child.
BATCH = 200


class Shelf:
    """A store for many programs, each in a part of its own, and what is to be found there."""

    store = None
    folder = None
    made = 0
    left: list = []


class Programs(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        Shelf.made += 1
        self.part = f"p{Shelf.made}"
        self.models = [Model() for _ in range(3)]
        self.vat, self.actors = open_vat(Shelf.store.vat(self.part))

    @rule(turn=programs)
    def run_a_turn(self, turn):
        play(self.vat, self.actors, self.models, turn)
        self.compare()

    @rule()
    def restart(self):
        self.vat.close()
        self.vat, self.actors = open_vat(Shelf.store.vat(self.part))
        self.compare()

    def compare(self):
        for actor, model in zip(self.actors, self.models, strict=True):
            assert form(actor.state()) == form(fields(model))

    def teardown(self):
        if hasattr(self, "vat"):
            self.vat.close()
            Shelf.left.append((self.part, [form(fields(model)) for model in self.models]))


def play(vat, actors, models, turn):
    """One turn, of the actors and of the models."""
    steps, fails = turn
    kept = [model.copy() for model in models]
    try:
        with vat:
            for number, step in steps:
                models[number].run(step)
                actors[number].run(step)
            if fails:
                raise Boom
    except Boom:
        models[:] = kept
    else:
        models[:] = [model.copy() for model in models]


def test_programs_do_what_the_model_does(tmp_path):
    Shelf.folder, Shelf.left, Shelf.made = tmp_path, [], 0
    Shelf.store = RocksStore(tmp_path / "store.db", sync=False)
    try:
        run = Programs.TestCase
        run.settings = settings(
            max_examples=PROGRAMS,
            suppress_health_check=list(HealthCheck),
            stateful_step_count=12,
        )
        run().runTest()
    finally:
        Shelf.store.close()
    for start in range(0, len(Shelf.left), BATCH):
        expected = tmp_path / "expected"
        expected.write_bytes(pickle.dumps(Shelf.left[start : start + BATCH]))
        child = run_child("fields_model.py", tmp_path / "store.db", expected)
        assert child.returncode == 0, child.stdout + child.stderr
