#!/usr/bin/env python3
"""Builds RocksDB once into a cache and runs commands that find it there.

    python tools/rocksdb.py run -- cargo build -p goblins-store-rocksdb
    eval "$(python tools/rocksdb.py env)"        # the same for a shell
    python tools/rocksdb.py build                # only fill the cache

RocksDB takes about 25 CPU minutes to compile, so its archive is kept in
``$GOBLINS_CACHE`` (default ``$XDG_CACHE_HOME/goblins``, else ``~/.cache/goblins``), under a
key made of the crate's version, its features and flags, and the C++ compiler. Needs the
``libclang`` package of the Python that runs it, for bindgen. Standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATE = "librocksdb-sys"


def cache_dir() -> Path:
    """The cache folder, outside the clone."""
    explicit = os.environ.get("GOBLINS_CACHE")
    if explicit:
        return Path(explicit).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "goblins"


def say(text: str) -> None:
    print(f"[rocksdb] {text}", file=sys.stderr, flush=True)


def output(*command: str) -> str:
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, cwd=ROOT).stdout


def bindgen_environment() -> dict[str, str]:
    """What bindgen needs: libclang from PyPI and the compiler's own headers."""
    environment: dict[str, str] = {}
    if "LIBCLANG_PATH" not in os.environ:
        try:
            import clang
        except ImportError:
            say("no libclang: `pip install libclang`, or set LIBCLANG_PATH to one of your own")
            sys.exit(2)
        environment["LIBCLANG_PATH"] = str(Path(clang.__file__).parent / "native")
        if "BINDGEN_EXTRA_CLANG_ARGS" not in os.environ:
            compiler = os.environ.get("CC", "cc")
            include = output(*shlex.split(compiler), "-print-file-name=include").strip()
            environment["BINDGEN_EXTRA_CLANG_ARGS"] = f"-I{include}"
    return environment


def cxx_flags() -> str:
    """RocksDB checksums every log record: without SSE 4.2 (2008) that is done in software."""
    own = os.environ.get("CXXFLAGS", "")
    if platform.machine() == "x86_64":
        return f"{own} -msse4.2 -mpclmul".strip()
    return own


class Recipe:
    """What is built, and the key under which the result is kept."""

    def __init__(self) -> None:
        metadata = json.loads(output("cargo", "metadata", "--format-version", "1", "--locked"))
        package = next(p for p in metadata["packages"] if p["name"] == CRATE)
        node = next(n for n in metadata["resolve"]["nodes"] if n["id"] == package["id"])
        compiler = os.environ.get("CXX", "c++")
        version = output(*shlex.split(compiler), "--version").splitlines()[0]
        parts = [package["version"], *sorted(node["features"]), version, platform.machine(), cxx_flags()]
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
        self.version: str = package["version"]
        self.source = Path(package["manifest_path"]).parent
        self.folder = cache_dir() / "rocksdb" / f"{self.version}-{digest}"
        self.description = "\n".join(parts) + "\n"

    @property
    def archive(self) -> Path:
        return self.folder / "librocksdb.a"


def watch(build: Path, total: int, done: threading.Event) -> None:
    """Says every half minute how far the compiler has come."""
    started = time.monotonic()
    while not done.wait(30):
        objects = sum(1 for _ in build.glob(f"release/build/{CRATE}-*/out/**/*.o"))
        minutes = (time.monotonic() - started) / 60
        say(f"{objects} of about {total} files compiled after {minutes:.1f} min")


def compile_archive(recipe: Recipe) -> None:
    sources = (recipe.source / "rocksdb_lib_sources.txt").read_text().split()
    say(f"RocksDB {recipe.version} is not in the cache ({recipe.folder}).")
    say("Building it from source, once: about 25 CPU minutes (13 to 20 minutes on 2 cores).")
    recipe.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=recipe.folder.parent, prefix="building-") as scratch:
        build = Path(scratch) / "target"
        environment = {**os.environ, **bindgen_environment()}
        environment["CXXFLAGS"] = cxx_flags()
        environment["CARGO_PROFILE_RELEASE_DEBUG"] = "false"
        for name in ("ROCKSDB_LIB_DIR", "ROCKSDB_STATIC"):
            environment.pop(name, None)
        command = ["cargo", "build", "--release", "--locked", "-p", CRATE, "--target-dir", str(build)]
        done = threading.Event()
        watcher = threading.Thread(target=watch, args=(build, len(sources), done), daemon=True)
        watcher.start()
        try:
            subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=sys.stderr)
        except subprocess.CalledProcessError as error:
            say("the build failed; its messages stand above")
            sys.exit(error.returncode)
        finally:
            done.set()
            watcher.join()
        built = next(build.glob(f"release/build/{CRATE}-*/out/librocksdb.a"))
        ready = Path(scratch) / "ready"
        ready.mkdir()
        shutil.move(built, ready / "librocksdb.a")
        (ready / "RECIPE").write_text(recipe.description)
        ready.rename(recipe.folder)
    say(f"kept in {recipe.folder}")


def ensure() -> dict[str, str]:
    """Fills the cache if need be; returns the environment that makes cargo use it."""
    environment = bindgen_environment()
    if "ROCKSDB_LIB_DIR" in os.environ:
        return environment
    recipe = Recipe()
    if not recipe.archive.exists():
        lock = recipe.folder.parent / f"{recipe.folder.name}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another build of RocksDB is under way; waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not recipe.archive.exists():
                compile_archive(recipe)
    environment["ROCKSDB_LIB_DIR"] = str(recipe.folder)
    environment["ROCKSDB_STATIC"] = "1"
    return environment


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=["build", "env", "run"])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    environment = ensure()
    if arguments.verb == "env":
        for name, value in environment.items():
            print(f"export {name}={shlex.quote(value)}")
    elif arguments.verb == "run":
        command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
        if not command:
            parser.error("run needs a command")
        try:
            os.execvpe(command[0], command, {**os.environ, **environment})
        except FileNotFoundError:
            say(f"no such command: {command[0]}")
            sys.exit(127)


if __name__ == "__main__":
    main()
