"""The power is cut at any moment: all that was acknowledged is there, and no turn in part (G1, G2, G3).

A process changes a store while each call that changes its files is noted; so what a disk holds for sure is
known for each moment. A few moments are tried; ``GOBLINS_CUTS=1000`` tries so many.
"""

import collections
import os
import random
import sys

import power
import pytest
from children import durable_changes
from goblins import GoblinsError
from support import child_command, child_environment

CUTS = int(os.environ.get("GOBLINS_CUTS", "20"))

pytestmark = [
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="the library that is loaded is for Linux"
    ),
    pytest.mark.skipif(power.library() is None, reason="there is no C compiler (cc)"),
]


def written(folder, *, void=False):
    """What a process did to the files of its store, and when it acknowledged what."""
    folder.mkdir(exist_ok=True)
    store, journal = folder / "store", folder / "journal"
    variables = {**child_environment(), **power.environment(store, journal, void=void)}
    done = power.run(child_command("durable_changes.py", store), variables)
    assert done.returncode == 0, done.stderr
    return list(power.records(journal))


def cuts(records, moments, chance, strict):
    """The disk at so many moments, and what was acknowledged till then."""
    at = collections.Counter(chance.choices(range(len(records) + 1), k=moments))
    disk = power.Disk()
    for number, record in enumerate([*records, None]):
        for _ in range(min(at[number], 1) if strict else at[number]):
            yield number, disk.left(None if strict else chance), list(disk.acknowledged)
        if record is not None:
            disk.follow(record)


def outcomes(records, moments, folder, *, strict, seed=1):
    found = collections.Counter()
    for number, files, acknowledged in cuts(records, moments, random.Random(seed), strict):
        power.write_out(files, folder)
        try:
            durable_changes.check(folder, acknowledged)
        except (AssertionError, GoblinsError) as error:
            found[f"{type(error).__name__}: {error}"] += 1
            if not found["first"]:
                found["first"] = number
        else:
            found["right"] += 1
    return found


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    return written(tmp_path_factory.mktemp("written"))


@pytest.mark.parametrize("strict", [True, False], ids=["nothing else is there", "some of the rest is there"])
def test_what_was_acknowledged_is_there_after_any_loss_of_power(journal, tmp_path, strict):
    """What was synced is there for sure; what was written after that may be, up to any moment."""
    for seed in range(-(-CUTS // 500)):
        if seed:
            journal = written(tmp_path / f"again {seed}")
        found = outcomes(journal, min(CUTS, 500) // 2, tmp_path / "store", strict=strict, seed=seed)
        assert set(found) == {"right"}, found


def test_the_moments_are_such_that_something_could_be_lost(journal):
    """Most of what is written is not synced for a while, and much is acknowledged."""
    kinds = collections.Counter(record.kind for record in journal)
    assert kinds["A"] == 3 * (3 * 6 + 1)
    assert kinds["S"] > 20
    assert kinds["D"] > 3
    assert kinds["W"] > 50


def test_without_syncs_acknowledged_changes_are_lost(tmp_path):
    """So the tests above would notice."""
    records = written(tmp_path, void=True)
    found = outcomes(records, 6, tmp_path / "left", strict=True)
    assert found["AssertionError: what was acknowledged is lost"] > 0, found
