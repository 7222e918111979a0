#!/usr/bin/env python3
"""Installs the wheel of a folder, and then its source distribution, into new environments, and uses them.

    python tools/try_package.py dist

The wheel must do without Rust; the source distribution is built by pip, with RocksDB from the cache. What the
page of the package shows is run twice, and must go on where it stopped. Standard library only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WITHOUT_TOOLS = {
    "PATH": "/usr/bin:/bin",
    "CARGO": "/nonexistent",
    "CC": "/nonexistent",
    "CXX": "/nonexistent",
}


def newest(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern), key=lambda file: file.stat().st_mtime)
    if not found:
        sys.exit(f"no {pattern} in {folder}: run `make wheel sdist`")
    return found[-1]


def example() -> str:
    page = (ROOT / "python" / "README.md").read_text()
    return page.split("```python\n")[1].split("```")[0]


def try_it(package: Path, scratch: Path, environment: dict[str, str]) -> None:
    place = scratch / package.suffix.strip(".")
    venv.create(place / "venv", with_pip=True)
    python = place / "venv" / "bin" / "python"
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([python, "-m", "pip", "install", *quiet, package], check=True, env=environment, cwd=place)
    for expected in ("10\n", "20\n"):
        command = [python, "-c", example()]
        answer = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, cwd=place).stdout
        if answer != expected:
            sys.exit(f"{package.name}: {answer!r} where {expected!r} was to come")
    print(f"{package.name}: installed, and goes on where it stopped")


def look_into(wheel: Path) -> None:
    """The wheel has its notices, no path of this machine, and no debug lines."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        if not any(name.endswith("THIRD-PARTY-NOTICES.txt") for name in names):
            sys.exit(f"{wheel.name} has no notices")
        library = archive.read(next(name for name in names if name.endswith(".so")))
    for path in (str(Path.home()), str(ROOT)):
        if path.encode() in library:
            sys.exit(f"the library in {wheel.name} holds the path {path}")
    if b".debug_line" in library:
        sys.exit(f"the library in {wheel.name} has debug lines")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {len(library) / 1e6:.1f} MB of it unpacked")


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "dist").resolve()
    wheel = newest(folder, "*.whl")
    look_into(wheel)
    with tempfile.TemporaryDirectory() as scratch:
        kept = {
            name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")
        }
        try_it(wheel, Path(scratch), {**kept, **WITHOUT_TOOLS})
        try_it(newest(folder, "*.tar.gz"), Path(scratch), kept)


if __name__ == "__main__":
    main()
