#!/usr/bin/env python3
"""Builds RocksDB once into a cache and runs commands that find it there.

    python tools/rocksdb.py run -- cargo build -p goblins-store-rocksdb
    eval "$(python tools/rocksdb.py env)"        # the same for a shell
    python tools/rocksdb.py build                # only fill the cache

RocksDB takes about 25 CPU minutes to compile file by file, since each of its 340 files parses the same
headers. Put together into a few large files they take 6, so that is tried first (on Linux, with the
features that it knows); the build of the crate itself is the fallback, and ``GOBLINS_ROCKSDB_BUILD=crate``
asks for it.

The archive is kept in ``$GOBLINS_CACHE`` (default ``$XDG_CACHE_HOME/goblins``, else
``~/.cache/goblins``), under a key made of the crate's version, its features and flags, and the C++ compiler.
Needs the ``libclang`` package of the Python that runs it, for bindgen. Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from processes import end_descendants, ending_with_signals, run_child

ROOT = Path(__file__).resolve().parent.parent
CRATE = "librocksdb-sys"
# With others, the crate's own build is the one that knows what is to be done.
GROUPED_FEATURES = {"bindgen-runtime", "lz4", "lz4-sys", "static"}
# Part of the key of the cache: counts up when this script compiles in another way.
LAYOUT = "grouped 2"
# The same for the C++ runtime beside the archive.
RUNTIME = "runtime-2"
OLDER_GLIBC = Path(__file__).resolve().parent / "older_glibc.cc"
# What a compiler of one of four groups needs, in MiB.
MEMORY_PER_JOB = 2200
# What the crate's own build defines on Linux.
DEFINES = [
    "NDEBUG=1",
    "HAVE_ALIGNED_NEW",
    "HAVE_UINT128_EXTENSION",
    "OS_LINUX",
    "ROCKSDB_PLATFORM_POSIX",
    "ROCKSDB_LIB_IO_POSIX",
    "ROCKSDB_SCHED_GETCPU_PRESENT",
    "ROCKSDB_AUXV_GETAUXVAL_PRESENT",
    "ROCKSDB_FALLOCATE_PRESENT",
    "ROCKSDB_RANGESYNC_PRESENT",
]


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
        packages = {package["name"]: package for package in metadata["packages"]}
        package = packages[CRATE]
        node = next(n for n in metadata["resolve"]["nodes"] if n["id"] == package["id"])
        self.compiler = shlex.split(os.environ.get("CXX", "c++"))
        compiler = output(*self.compiler, "--version").splitlines()[0]
        self.features: set[str] = set(node["features"])
        machine = platform.machine()
        parts = [package["version"], *sorted(self.features), compiler, machine, cxx_flags(), LAYOUT]
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
        self.version: str = package["version"]
        self.source = Path(package["manifest_path"]).parent
        lz4 = packages.get("lz4-sys")
        self.lz4 = Path(lz4["manifest_path"]).parent / "liblz4" / "lib" if lz4 else None
        self.folder = cache_dir() / "rocksdb" / f"{self.version}-{digest}"
        self.description = "\n".join(parts) + "\n"

    @property
    def archive(self) -> Path:
        return self.folder / "librocksdb.a"

    @property
    def runtime(self) -> Path:
        """Is there if the C++ runtime lies beside the archive."""
        return self.folder / RUNTIME


class CompilerFailed(Exception):
    """A compiler, or what it was to compile, is not as this script needs it."""


def number_of_jobs() -> int:
    """As many compilers at once as there are cores to use, and memory for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) / 1024
    except (OSError, StopIteration, ValueError):
        return min(cores, 2)
    return max(1, min(cores, int(available / MEMORY_PER_JOB)))


def groups_of_sources(recipe: Recipe, count: int) -> list[list[Path]]:
    """The crate's list in its order, cut into groups of about equal size."""
    listed = (recipe.source / "rocksdb_lib_sources.txt").read_text().split()
    # The crate has a file of its own for the version.
    files = [recipe.source / "rocksdb" / name for name in listed if name != "util/build_version.cc"]
    sizes = [file.stat().st_size for file in files]
    whole, before = sum(sizes), 0
    groups: list[list[Path]] = [[] for _ in range(count)]
    for file, size in zip(files, sizes, strict=True):
        groups[before * count // whole].append(file)
        before += size
    return [group for group in groups if group]


def compile_in_groups(recipe: Recipe, scratch: Path) -> Path:
    """The archive, compiled from a few files that include all others."""
    if sys.platform != "linux" or not recipe.features <= GROUPED_FEATURES:
        raise CompilerFailed("it is tried on Linux, with LZ4 and nothing else")
    jobs = number_of_jobs()
    # More groups than four cost more CPU time, and pay only if there are cores for them.
    groups = groups_of_sources(recipe, max(4, jobs))
    flags = ["-std=c++20", "-O2", "-fPIC", "-w", "-include", "cstdint"]
    flags += ["-ffunction-sections", "-fdata-sections", *(f"-D{name}" for name in DEFINES)]
    includes = [recipe.source / "rocksdb" / "include", recipe.source / "rocksdb", recipe.source]
    if "lz4" in recipe.features and recipe.lz4:
        flags.append("-DLZ4=1")
        includes.append(recipe.lz4)
    # No path of this machine gets into what is built.
    flags.append(f"-ffile-prefix-map={recipe.source}=/rocksdb")
    flags += [f"-I{folder}" for folder in includes] + shlex.split(cxx_flags())
    todo = []
    for number, group in enumerate(groups):
        unit = scratch / f"group{number}.cc"
        unit.write_text("".join(f'#include "{file}"\n' for file in group))
        todo.append((unit, sum(file.stat().st_size for file in group)))
    version = recipe.source / "build_version.cc"
    todo.append((version, version.stat().st_size))
    whole = sum(size for _, size in todo)
    say(f"{len(groups)} groups of sources, {jobs} compiled at a time; 3 minutes on 2 cores")
    started, finished = time.monotonic(), 0
    objects = [scratch / f"{unit.stem}.o" for unit, _ in todo]

    def compile_one(item: tuple[Path, int]) -> int:
        unit, size = item
        run_compiler([*recipe.compiler, *flags, "-c", str(unit), "-o", str(scratch / f"{unit.stem}.o")])
        return size

    pool = ThreadPoolExecutor(jobs)
    try:
        for compiled in as_completed([pool.submit(compile_one, item) for item in todo]):
            finished += compiled.result()
            minutes = (time.monotonic() - started) / 60
            say(f"{100 * finished // whole} % of the sources compiled after {minutes:.1f} min")
    finally:
        # Where one has failed, the others are not waited for.
        pool.shutdown(wait=False, cancel_futures=True)
        end_descendants()
        pool.shutdown()
    archive = scratch / "librocksdb.a"
    run_compiler([os.environ.get("AR", "ar"), "crs", str(archive), *map(str, objects)])
    return archive


def run_compiler(command: list[str]) -> None:
    code, written = run_child(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if code:
        raise CompilerFailed(written[-2000:] or f"{command[0]} ended with {code}")


def watch(build: Path, total: int, done: threading.Event) -> None:
    """Says every half minute how far the compiler has come."""
    started = time.monotonic()
    while not done.wait(30):
        objects = sum(1 for _ in build.glob(f"release/build/{CRATE}-*/out/**/*.o"))
        minutes = (time.monotonic() - started) / 60
        say(f"{objects} of about {total} files compiled after {minutes:.1f} min")


def compile_by_crate(recipe: Recipe, scratch: Path) -> Path:
    """The archive, compiled by the crate's own build."""
    sources = (recipe.source / "rocksdb_lib_sources.txt").read_text().split()
    say("The crate's own build: about 25 CPU minutes (13 to 20 minutes on 2 cores).")
    build = scratch / "target"
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
        code, _ = run_child(command, cwd=ROOT, env=environment, stdout=sys.stderr)
    finally:
        done.set()
        watcher.join()
    if code:
        say("the build failed; its messages stand above")
        sys.exit(code)
    return next(build.glob(f"release/build/{CRATE}-*/out/librocksdb.a"))


def lay_the_runtime_beside(recipe: Recipe) -> None:
    """Lays the C++ runtime's archive beside RocksDB's, where the linker finds it before the shared one.

    So what is built runs on systems with an older runtime and an older glibc than those here. The lock of the
    recipe is held.
    """
    runtime = Path(output(*recipe.compiler, "-print-file-name=libstdc++.a").strip())
    if sys.platform == "linux" and runtime.is_file():
        with scratch_beside(recipe) as scratch:
            copy, compiled = scratch / runtime.name, scratch / f"{OLDER_GLIBC.stem}.o"
            shutil.copy(runtime, copy)
            try:
                run_compiler([*recipe.compiler, "-O2", "-fPIC", "-c", str(OLDER_GLIBC), "-o", str(compiled)])
                run_compiler([os.environ.get("AR", "ar"), "rs", str(copy), str(compiled)])
            except CompilerFailed as error:
                say(f"what is built needs a glibc as new as this one: {error}")
            # Others may link with the one that is there.
            copy.replace(recipe.folder / copy.name)
    recipe.runtime.touch()


@contextlib.contextmanager
def scratch_beside(recipe: Recipe) -> Iterator[Path]:
    """A folder for what is not ready yet. The lock of the recipe is held."""
    prefix = f"building-{recipe.folder.name}-"
    # What a build that was killed has left is nobody's.
    for left in recipe.folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=recipe.folder.parent, prefix=prefix) as name:
        yield Path(name)


def compile_archive(recipe: Recipe) -> None:
    """Builds the archive and puts it into the cache. The lock of the recipe is held."""
    say(f"RocksDB {recipe.version} is not in the cache ({recipe.folder}); building it from source, once.")
    with scratch_beside(recipe) as scratch:
        if os.environ.get("GOBLINS_ROCKSDB_BUILD") == "crate":
            built = compile_by_crate(recipe, scratch)
        else:
            try:
                built = compile_in_groups(recipe, scratch)
            except CompilerFailed as error:
                say(f"compiling in groups failed: {error}")
                built = compile_by_crate(recipe, scratch)
        ready = scratch / "ready"
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
    if not (recipe.archive.exists() and recipe.runtime.exists()):
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
            if not recipe.runtime.exists():
                lay_the_runtime_beside(recipe)
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
    # The compilers end with this process, and so does what they have written.
    with ending_with_signals():
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
