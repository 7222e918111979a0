"""Each call that a store makes of the disk fails: a typed error, a vat that stops, and nothing is lost (G9).

A process runs one scenario again and again, and each time another call fails. Some are tried;
``GOBLINS_CUTS=1000`` tries each.
"""

import errno
import os
import sys

import power
import pytest
from support import child_command, child_environment

STEP = 1 if int(os.environ.get("GOBLINS_CUTS", "20")) > 100 else 9

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the library to load is for Linux"),
    pytest.mark.skipif(power.library() is None, reason="there is no C compiler (cc)"),
]


@pytest.mark.parametrize("kind", ["once", "on", "short"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_call_that_fails_is_a_typed_error_and_nothing_acknowledged_is_lost(tmp_path, number, kind):
    folder = tmp_path / "store"
    variables = {**child_environment(), **power.environment(folder)}
    done = power.run(child_command("failing_disk.py", folder, number, kind, STEP), variables)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if " BAD " in line] == []
    assert len(lines) * STEP > 60
    # Most of what fails is of consequence.
    assert sum(" right Store" in line for line in lines) * 2 > len(lines), lines
