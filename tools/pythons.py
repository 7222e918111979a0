#!/usr/bin/env python3
"""Lists the CPythons of this machine that the package supports, one of each version.

    python tools/pythons.py

Left out is the version that runs this. Looked at are `python3.X` on the PATH and the versions of pyenv.
Standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SUPPORTED = [(3, 11), (3, 12), (3, 13)]
# A build with the free-threaded flag has no GIL, which is another matter.
QUESTION = """
import sys, sysconfig, venv
fits = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
sys.exit(not (fits and sys.version_info[:2] == (%d, %d)))
"""


def candidates(major: int, minor: int) -> Iterator[str]:
    """Interpreters that may be of this version."""
    name = f"python{major}.{minor}"
    # A shim of pyenv stands on the PATH, whether its version is chosen or not.
    found = shutil.which(name)
    if found:
        yield found
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for folder in sorted(root.glob(f"versions/{major}.{minor}.*"), reverse=True):
        yield str(folder / "bin" / name)


def works(python: str, major: int, minor: int) -> bool:
    """Whether this interpreter runs, and is what its name says."""
    try:
        return subprocess.run([python, "-c", QUESTION % (major, minor)], capture_output=True).returncode == 0
    except OSError:
        return False


def main() -> None:
    for version in SUPPORTED:
        if version != sys.version_info[:2]:
            found = next((python for python in candidates(*version) if works(python, *version)), None)
            if found:
                print(found)


if __name__ == "__main__":
    main()
