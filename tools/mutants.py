#!/usr/bin/env python3
"""Switches off, one by one, lines on which a guarantee rests: a test that guards it must fail.

    python tools/mutants.py                 # all
    python tools/mutants.py sync fork       # those with such a word in their name
    python tools/mutants.py --list

Each mutant stands in `mutants.toml`: a file, the text in it and what takes its place, and tests, of which at
least one must fail. It is made in a copy of the clone, uncommitted changes included, so nothing here is
touched. The tests pass there before the first mutant. `make mutants` runs this, up to half a minute for each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tools" / "mutants.toml"
# A mutant may hang: that is noticed too.
PATIENCE = 300
# Most of the time would go into optimising these again and again.
UNOPTIMISED = [
    word
    for crate in ("core", "store-rocksdb", "python")
    for word in ("--config", f"profile.dev.package.goblins-{crate}.opt-level=0")
]
KILLED, LIVED, BROKEN = "killed", "LIVED", "DOES NOT BUILD"


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
            "CARGO_INCREMENTAL": "1",
            "PYO3_PYTHON": sys.executable,
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

    def run(self, *command: str, timeout: float) -> int:
        """The return code of a command, or 124 if it took too long; what it wrote is kept in `output`."""
        with tempfile.TemporaryFile() as output:
            # In a group of its own, all of which ends should it hang.
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(timeout)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                code = 124
            output.seek(0)
            self.output = output.read().decode(errors="replace")
        return code

    def cargo(self, *command: str, timeout: float = 3600) -> int:
        return self.run(sys.executable, "tools/rocksdb.py", "run", "--", "cargo", *command, timeout=timeout)

    def build(self, tests: tuple[str, ...]) -> bool:
        """Builds what the tests need."""
        for group in {of_core(test) for test in tests if is_of_core(test)}:
            if self.cargo("test", "--quiet", *group, "--no-run", *UNOPTIMISED):
                return False
        if all(map(is_of_core, tests)):
            return True
        if self.cargo("build", "--quiet", "--locked", "-p", "goblins-python", "--lib", *UNOPTIMISED):
            return False
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        library = "lib_goblins.dylib" if sys.platform == "darwin" else "lib_goblins.so"
        built, place = (
            self.target / "debug" / library,
            self.folder / "python" / "goblins" / f"_goblins{suffix}",
        )
        new = place.with_suffix(".new")
        shutil.copyfile(built, new)
        new.replace(place)
        return True

    def passes(self, tests: tuple[str, ...], patience: float = PATIENCE) -> bool:
        """Whether all of the tests pass."""
        of_files: dict[tuple[str, ...], list[str]] = {}
        for test in filter(is_of_core, tests):
            of_files.setdefault(of_core(test), []).append(test.partition("::")[2])
        for file, names in of_files.items():
            only = names if all(names) else []
            if self.cargo("test", *file, *UNOPTIMISED, "--", *only, timeout=patience):
                return False
            for name in filter(None, names):
                if f"{name} ... ok" not in self.output:
                    sys.exit(f"there is no test {name} in {file[-1]}")
        python = [test for test in tests if not is_of_core(test)]
        if not python:
            return True
        failed = self.run(
            sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *python, timeout=patience
        )
        # Nothing was collected, or there is no such test.
        if failed in (4, 5):
            sys.exit(f"pytest can't run {python}:\n{self.output[-2000:]}")
        return not failed

    def judge(self, mutant: Mutant) -> str:
        """Makes the mutant, tries it, and takes it back."""
        path = self.folder / mutant.file
        text = path.read_text(encoding="utf-8")
        path.write_text(mutated(text, mutant), encoding="utf-8")
        try:
            if not mutant.file.endswith(".py") and not self.build(mutant.tests):
                return BROKEN
            return LIVED if self.passes(mutant.tests) else KILLED
        finally:
            path.write_text(text, encoding="utf-8")


def is_of_core(test: str) -> bool:
    """Whether it is a test of the core: `file.rs::test`, and `lib.rs::test` for those beside the code."""
    return test.partition("::")[0].endswith(".rs")


def of_core(test: str) -> tuple[str, ...]:
    """What tells cargo where it is."""
    file = test.partition("::")[0].removesuffix(".rs")
    return ("--locked", "-p", "goblins-core", *(("--lib",) if file == "lib" else ("--test", file)))


def mutated(text: str, mutant: Mutant) -> str:
    parts = text.split(mutant.old)
    count = len(parts) - 1
    if not (count == 1 if mutant.which is None else mutant.which < count):
        sys.exit(f"{LIST.name}: the text of '{mutant.name}' stands {count} times in {mutant.file}")
    if mutant.new == mutant.old:
        sys.exit(f"{LIST.name}: '{mutant.name}' changes nothing")
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
    for mutant in chosen:
        mutated((ROOT / mutant.file).read_text(encoding="utf-8"), mutant)
    if arguments.list:
        for mutant in chosen:
            print(f"{mutant.name}: {mutant.file}, {', '.join(mutant.tests)}")
        return 0
    copy = Copy(arguments.folder.resolve())
    copy.renew()
    print("the tests as they are ...", flush=True)
    every = tuple(dict.fromkeys(test for mutant in chosen for test in mutant.tests))
    if not copy.build(every):
        sys.exit(f"the copy does not build:\n{copy.output}")
    if not copy.passes(every, 3600):
        sys.exit(f"a test fails without any mutant:\n{copy.output[-4000:]}")
    failed = 0
    for number, mutant in enumerate(chosen, 1):
        started = time.monotonic()
        verdict = copy.judge(mutant)
        print(
            f"{number:3}/{len(chosen)} {verdict} {mutant.name} ({time.monotonic() - started:.0f} s)",
            flush=True,
        )
        if verdict == BROKEN:
            print(copy.output[-3000:], flush=True)
        failed += verdict != KILLED
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
