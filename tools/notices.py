#!/usr/bin/env python3
"""Writes THIRD-PARTY-NOTICES.txt: the licences of all that is linked into the extension.

    python tools/notices.py            # writes the file
    python tools/notices.py --check    # fails if the file is not what it should be

What is linked is asked of cargo; RocksDB and LZ4 come with crates. Standard library only.
"""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTICES = ROOT / "THIRD-PARTY-NOTICES.txt"
BINDING = "goblins-python"
# Crates that carry the sources of something else, and where that has its licences.
CARRIED = {
    "librocksdb-sys": [("RocksDB", "rocksdb", ("LICENSE.Apache", "LICENSE.leveldb"))],
    "lz4-sys": [("LZ4", "liblz4/lib", ("LICENSE",))],
}
LICENCE_NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE", "COPYRIGHT")
HEAD = """The compiled part of Goblins contains the following software. Each part stands under its own
licence, which follows its name. Where several licences are named, the choice is yours.

The standard library of Rust stands under the MIT or the Apache-2.0 licence, as you choose, and is
copyright The Rust Project Developers.

The GNU C++ runtime, which may be linked in as well, stands under the GPL, version 3, with the GCC Runtime
Library Exception, version 3.1, which sets no conditions on what is linked with it.
"""


def cargo(*arguments: str) -> str:
    command = ["cargo", *arguments, "--locked"]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, cwd=ROOT).stdout


def linked_crates() -> list[dict]:
    """The packages that end up in the extension on Linux, without ours, by name."""
    # What builds or tests it is not in it, and procedural macros run in the compiler.
    options = [
        "--package",
        BINDING,
        "--edges",
        "normal,no-proc-macro",
        "--target",
        "x86_64-unknown-linux-gnu",
    ]
    lines = cargo("tree", *options, "--prefix", "none", "--format", "{p}").splitlines()
    linked = {tuple(line.split()[:2]) for line in lines if line}
    packages = json.loads(cargo("metadata", "--format-version", "1"))["packages"]
    found = [p for p in packages if p["source"] and (p["name"], f"v{p['version']}") in linked]
    return sorted(found, key=lambda p: (p["name"], p["version"]))


def notices() -> str:
    texts: dict[str, list[str]] = {}
    for package in linked_crates():
        folder = Path(package["manifest_path"]).parent
        title = f"{package['name']} {package['version']} ({package['license'] or 'see below'})"
        files = sorted(file for file in folder.iterdir() if file.name.upper().startswith(LICENCE_NAMES))
        found = [read(file) for file in files if file.is_file()]
        if not found:
            found = [f"{package['license']}\n\nAuthors: {', '.join(package['authors']) or 'not named'}"]
        for text in found:
            texts.setdefault(text, []).append(title)
        for name, place, wanted in CARRIED.get(package["name"], []):
            for file in wanted:
                texts.setdefault(read(folder / place / file), []).append(f"{name} (in {title})")
    rule = "\n" + "=" * 80 + "\n"
    return HEAD + "".join(rule + "\n".join(names) + "\n\n" + text + "\n" for text, names in texts.items())


def read(file: Path) -> str:
    return "\n".join(line.rstrip() for line in file.read_text(errors="replace").strip().splitlines())


def main() -> int:
    wanted = notices()
    if "--check" not in sys.argv[1:]:
        NOTICES.write_text(wanted)
        return 0
    present = NOTICES.read_text() if NOTICES.exists() else ""
    changes = list(difflib.unified_diff(present.splitlines(), wanted.splitlines(), lineterm="", n=0))
    for line in changes[:20]:
        print(line)
    if changes:
        print(f"{NOTICES.name} is not up to date: run `python tools/notices.py`")
    return bool(changes)


if __name__ == "__main__":
    sys.exit(main())
