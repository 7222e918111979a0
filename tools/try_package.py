#!/usr/bin/env python3
"""Installs the wheel of a folder, and then its source distribution, into new environments, and uses them.

    python tools/try_package.py dist            # the newest wheel and source distribution there

The wheel must do without Rust; the source distribution is built by pip, with RocksDB from the cache. What the
page of the package shows is run twice, and must go on where it stopped. Both have the same compiled library,
byte by byte, though they were built in different folders. Where RocksDB is not in the cache, a build must say
so, and leave nothing when it is ended. Standard library only.
"""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOWHERE = "/nonexistent"
WITHOUT_TOOLS = {
    "PATH": NOWHERE,
    "CARGO": NOWHERE,
    "CARGO_HOME": NOWHERE,
    "RUSTUP_HOME": NOWHERE,
    "CC": NOWHERE,
    "CXX": NOWHERE,
}
PIP = ["-m", "pip", "install", "--disable-pip-version-check"]
# Longer, and a wheel has grown by something that nobody meant to ship.
LARGEST = 6_000_000
# What every system has. The C++ runtime is not among them: it would have to be as new as the compiler.
SHARED = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1"}


def newest(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern), key=lambda file: file.stat().st_mtime)
    if not found:
        sys.exit(f"no {pattern} in {folder}: run `make wheel sdist`")
    return found[-1]


def example() -> str:
    page = (ROOT / "python" / "README.md").read_text()
    return page.split("```python\n")[1].split("```")[0]


def new_python(place: Path) -> Path:
    venv.create(place / "venv", with_pip=True)
    return place / "venv" / "bin" / "python"


def try_it(package: Path, place: Path, environment: dict[str, str]) -> bytes:
    """Installs a package, and runs what its page shows, twice; its compiled library."""
    python = new_python(place)
    subprocess.run([python, *PIP, "--quiet", package], check=True, env=environment, cwd=place)
    for expected in ("10\n", "20\n"):
        command = [python, "-c", example()]
        answer = subprocess.run(
            command, check=True, text=True, stdout=subprocess.PIPE, cwd=place, env=environment
        ).stdout
        if answer != expected:
            sys.exit(f"{package.name}: {answer!r} where {expected!r} was to come")
    print(f"{package.name}: installed, and goes on where it stopped", flush=True)
    (library,) = place.glob("venv/lib/python*/site-packages/goblins/_goblins.*.so")
    return library.read_bytes()


def look_into(wheel: Path) -> None:
    """The wheel has its notices, no path of this machine and no debug lines, and needs no C++ runtime."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for needed in ("licenses/LICENSE", "licenses/THIRD-PARTY-NOTICES.txt", "goblins/py.typed"):
            if not any(name.endswith(needed) for name in names):
                sys.exit(f"{wheel.name} has no {needed}")
        contents = {name: archive.read(name) for name in names}
    home = os.environ.get("CARGO_HOME") or Path.home() / ".cargo"
    for path in {str(ROOT), str(Path.home()), str(home)}:
        for name, content in contents.items():
            if path != "/" and path.encode() in content:
                sys.exit(f"{name} in {wheel.name} holds the path {path}")
    library = next(content for name, content in contents.items() if name.endswith(".so"))
    if sys.platform == "linux":
        sections = sections_of(library)
        for name in (".debug_line", ".symtab"):
            if name in sections:
                sys.exit(f"the library in {wheel.name} is not stripped: it has {name}")
        needed = set(re.findall(r"(?<=\0)lib[^\0]*\.so[.\d]*(?=\0)", sections[".dynstr"].decode()))
        if needed - SHARED:
            sys.exit(f"the library in {wheel.name} needs {', '.join(sorted(needed - SHARED))}")
        print(f"{wheel.name}: needs {newest_glibc(sections)}, and nothing of C++", flush=True)
    size = wheel.stat().st_size
    if size > LARGEST:
        sys.exit(f"{wheel.name} has {size / 1e6:.1f} MB, and {LARGEST / 1e6:.1f} is the limit")
    print(f"{wheel.name}: {size / 1e6:.1f} MB, its library {len(library) / 1e6:.1f} MB", flush=True)


def sections_of(library: bytes) -> dict[str, bytes]:
    """The sections of an ELF file of 64 bits, by name."""
    at, size, count, names = struct.unpack_from("<40xQ10xHHH", library)[:4]
    if count * size == 0:
        return {}
    headers = [struct.unpack_from("<I20xQQ", library, at + number * size) for number in range(count)]
    start = headers[names][1]
    named = {}
    for name, offset, length in headers:
        end = library.index(b"\0", start + name)
        named[library[start + name : end].decode()] = library[offset : offset + length]
    return named


def newest_glibc(sections: dict[str, bytes]) -> str:
    versions = re.findall(r"GLIBC_(\d+)\.(\d+)", sections[".dynstr"].decode())
    return "glibc {}.{}".format(*max((int(major), int(minor)) for major, minor in versions))


def look_into_sources(sdist: Path) -> None:
    """The source distribution has what its page speaks of, and what its build needs."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tools = {f"tools/{name}" for name in ("build_backend.py", "older_glibc.cc", "processes.py", "rocksdb.py")}
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
    missing = ({"Cargo.lock", "LICENSE", "THIRD-PARTY-NOTICES.txt"} | tools | pages) - names
    if missing:
        sys.exit(f"{sdist.name} lacks {', '.join(sorted(missing))}")


def build_without_the_archive(sdist: Path, place: Path, environment: dict[str, str]) -> None:
    """pip says that RocksDB is built, and for how long; when it is ended, all ends, and nothing is left."""
    cache = place / "cache"
    command = [new_python(place), *PIP, "--verbose", sdist]
    (place / "tmp").mkdir()
    environment = {**environment, "GOBLINS_CACHE": str(cache), "TMPDIR": str(place / "tmp")}
    with subprocess.Popen(
        command, env=environment, cwd=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as pip:
        said = io.StringIO()
        for line in pip.stdout or ():
            said.write(line)
            if re.search(r"\[rocksdb\] .*minutes", line):
                break
        else:
            sys.exit(f"{sdist.name}: no word on RocksDB:\n{said.getvalue()[-3000:]}")
        if "is not in the cache" not in said.getvalue():
            sys.exit(f"{sdist.name}: no word that RocksDB is not in the cache")
        # The compilers have begun.
        wait_until(lambda: any("cc1plus" in name for name in programs_with(str(cache))), "a compiler runs")
        pip.terminate()
        pip.wait()
    wait_until(lambda: not programs_with(str(cache)), "all that pip has started has ended")
    left = [path.name for path in (cache / "rocksdb").iterdir() if path.suffix != ".lock"]
    if left:
        sys.exit(f"{sdist.name}: a build that was ended has left {', '.join(left)}")
    print(f"{sdist.name}: says that it builds RocksDB, and ends without a trace: {line.strip()}", flush=True)


def programs_with(word: str) -> list[str]:
    """The command lines of all processes that have a word in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text(errors="replace"))
        except OSError:
            continue
    return found


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"waited {seconds:.0f} seconds in vain: {what}")
        time.sleep(0.2)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "dist").resolve()
    wheel, sdist = newest(folder, "*.whl"), newest(folder, "*.tar.gz")
    look_into(wheel)
    look_into_sources(sdist)
    with tempfile.TemporaryDirectory() as scratch:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("VIRTUAL_ENV", "PYTHONPATH", "CARGO_TARGET_DIR", "PIP_QUIET")
        }
        for name in ("wheel", "sources", "without"):
            (Path(scratch) / name).mkdir()
        library = try_it(wheel, Path(scratch) / "wheel", {**kept, **WITHOUT_TOOLS})
        if sys.platform == "linux":
            build_without_the_archive(sdist, Path(scratch) / "without", kept)
        if try_it(sdist, Path(scratch) / "sources", kept) != library:
            sys.exit(f"the library that {sdist.name} was built to differs from that in {wheel.name}")
        print("both have the same library, byte by byte", flush=True)


if __name__ == "__main__":
    main()
