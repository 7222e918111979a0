"""Builds wheels and source distributions as `pip install .` asks for them (PEP 517).

maturin does the work. Before it compiles, RocksDB is taken from the cache, or built into it: see
`rocksdb.py` beside this file. So a wheel from a clone, from a source distribution, and from `make` are
built from the same archive.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import maturin

sys.path.insert(0, str(Path(__file__).resolve().parent))

import rocksdb
from processes import end_with_parent, ending_with_signals

Settings = Mapping[str, object] | None

build_sdist = maturin.build_sdist
get_requires_for_build_sdist = maturin.get_requires_for_build_sdist
get_requires_for_build_wheel = maturin.get_requires_for_build_wheel
get_requires_for_build_editable = maturin.get_requires_for_build_editable
prepare_metadata_for_build_wheel = maturin.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = maturin.prepare_metadata_for_build_editable


def build_wheel(folder: str, settings: Settings = None, metadata: str | None = None) -> str:
    """A wheel in the folder; its name is returned."""
    end_with_parent()
    with ending_with_signals():
        prepare()
        return maturin.build_wheel(folder, settings, metadata)


def build_editable(folder: str, settings: Settings = None, metadata: str | None = None) -> str:
    """A wheel that leads to the sources here; its name is returned."""
    end_with_parent()
    with ending_with_signals():
        os.environ.update(rocksdb.ensure())
        return maturin.build_editable(folder, settings, metadata)


def build_wheel_for_others(folder: Path) -> None:
    """A wheel with the tag of the oldest Linux that it runs on. The hook above makes one for this machine."""
    with ending_with_signals():
        prepare()
        command = ["maturin", "build", "--release", "--locked", "--interpreter", sys.executable]
        subprocess.run([sys.executable, "-m", *command, "--out", str(folder)], check=True, cwd=rocksdb.ROOT)


def prepare() -> None:
    """Makes cargo find RocksDB, and its output depend on no folder."""
    os.environ.update(rocksdb.ensure())
    os.environ["RUSTFLAGS"] = flags_without_paths()


def flags_without_paths() -> str:
    """Flags for rustc by which no path of this machine gets into what is built."""
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    toolchain = subprocess.run(
        ["rustc", "--print", "sysroot"], check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()
    names = {toolchain: "/rust", str(rocksdb.ROOT): "/goblins"}
    for source in sorted((home / "registry" / "src").glob("*")):
        names[str(source)] = "/crates"
    flags = [f"--remap-path-prefix={path}={name}" for path, name in names.items()]
    return " ".join([os.environ.get("RUSTFLAGS", ""), *map(shlex.quote, flags)]).strip()


if __name__ == "__main__":
    build_wheel_for_others(Path(sys.argv[1] if len(sys.argv) > 1 else "dist").resolve())
