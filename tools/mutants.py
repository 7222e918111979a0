#!/usr/bin/env python3
"""Switches off, one by one, lines on which a guarantee rests: a test that guards it must fail.

    python tools/mutants.py                 # all
    python tools/mutants.py sync fork       # those with such a word in their name
    python tools/mutants.py --list

Each mutant stands in `mutants.toml`: a file, the text in it and what takes its place, and tests, of which at
least one must fail. It is made in a copy of the clone, uncommitted changes included, so nothing here is
touched. The tests pass there before the first mutant. `make mutants` runs this, half a minute for each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tools" / "mutants.toml"
# A mutant may hang: that is noticed too.
PATIENCE = 300


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    #: Where the text stands more than once: which of them, from 0.
    which: int | None = None


def mutants() -> list[Mutant]:
    entries = tomllib.loads(LIST.read_text(encoding="utf-8"))["mutant"]
    return [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


class Copy:
    """A copy of the clone, in which mutants are made, built and tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target = folder / "target"
        self.environment = {
            **os.environ,
            "CARGO_TARGET_DIR": str(self.target),
            "CARGO_PROFILE_DEV_OPT_LEVEL": "1",
            "CARGO_PROFILE_DEV_DEBUG": "false",
            "PYTHONPATH": str(folder / "python"),
            "PYTHONWARNINGS": "ignore:goblins was built without",
        }

    def renew(self) -> None:
        """Copies what git knows, and leaves alone what has not changed: cargo goes by times."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        ).stdout.decode()
        for name in filter(None, listed.split("\0")):
            source, copy = ROOT / name, self.folder / name
            if source.is_file() and not (copy.is_file() and copy.read_bytes() == source.read_bytes()):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)

    def run(self, *command: str, timeout: float = PATIENCE) -> int:
        """The return code of a command, or 124 if it took too long; what it wrote is kept in `output`."""
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            self.output = f"took more than {timeout} s"
            return 124
        self.output = done.stdout.decode(errors="replace")
        return done.returncode

    def build(self) -> bool:
        command = ["cargo", "build", "--quiet", "--locked", "--package", "goblins-python", "--lib"]
        if self.run(sys.executable, "tools/rocksdb.py", "run", "--", *command, timeout=3600):
            return False
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        library = "lib_goblins.dylib" if sys.platform == "darwin" else "lib_goblins.so"
        shutil.copyfile(
            self.target / "debug" / library, self.folder / "python" / "goblins" / f"_goblins{suffix}"
        )
        return True

    def passes(self, tests: tuple[str, ...]) -> bool:
        """Whether all of the tests pass."""
        python = [test for test in tests if test.partition("::")[0].endswith(".py")]
        if python and self.run(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *python):
            if "no tests ran" in self.output or "not found" in self.output:
                sys.exit(f"there is no such test: {python}\n{self.output[-2000:]}")
            return False
        for test in tests:
            file, _, name = test.partition("::")
            if file.endswith(".rs"):
                command = [
                    "cargo",
                    "test",
                    "--quiet",
                    "--package",
                    "goblins-core",
                    "--test",
                    file[:-3],
                    "--",
                    name,
                ]
                if self.run(sys.executable, "tools/rocksdb.py", "run", "--", *command, timeout=900):
                    return False
                if "test result: ok. 0 passed" in self.output:
                    sys.exit(f"there is no such test: {test}")
        return True


def mutated(text: str, mutant: Mutant) -> str:
    parts = text.split(mutant.old)
    count = len(parts) - 1
    if not (count == 1 if mutant.which is None else mutant.which < count):
        sys.exit(f"mutant {mutant.name}: its text stands {count} times in {mutant.file}; mend {LIST.name}")
    at = (mutant.which or 0) + 1
    return mutant.old.join(parts[:at]) + mutant.new + mutant.old.join(parts[at:])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*")
    parser.add_argument("--list", action="store_true", help="only list them")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "target" / "mutants", help="where the copy is kept"
    )
    arguments = parser.parse_args()
    chosen = [m for m in mutants() if not arguments.words or any(word in m.name for word in arguments.words)]
    if arguments.list:
        for mutant in chosen:
            print(f"{mutant.name}: {mutant.file}, {', '.join(mutant.tests)}")
        return 0
    copy = Copy(arguments.folder.resolve())
    copy.renew()
    print("the tests as they are ...", flush=True)
    if not copy.build():
        sys.exit(f"the copy does not build:\n{copy.output}")
    every = tuple(dict.fromkeys(test for mutant in chosen for test in mutant.tests))
    if not copy.passes(every):
        sys.exit(f"a test fails without any mutant:\n{copy.output[-4000:]}")
    lived = []
    for number, mutant in enumerate(chosen, 1):
        started = time.monotonic()
        path = copy.folder / mutant.file
        text = path.read_text(encoding="utf-8")
        path.write_text(mutated(text, mutant), encoding="utf-8")
        try:
            if not copy.build():
                sys.exit(f"mutant {mutant.name} does not build:\n{copy.output[-3000:]}")
            killed = not copy.passes(mutant.tests)
        finally:
            path.write_text(text, encoding="utf-8")
        if not killed:
            lived.append(mutant.name)
        verdict = "killed" if killed else "LIVED"
        print(
            f"{number:2}/{len(chosen)} {verdict} {mutant.name} ({time.monotonic() - started:.0f} s)",
            flush=True,
        )
    print(f"{len(chosen) - len(lived)} passed, {len(lived)} failed")
    return bool(lived)


if __name__ == "__main__":
    sys.exit(main())
