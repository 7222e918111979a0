"""The package: what it says of itself, what an import costs, and what stands beside it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import goblins
import pytest

ROOT = Path(__file__).parent.parent


def test_the_version_stands_in_one_place():
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    assert goblins.__version__ == cargo["workspace"]["package"]["version"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" in project["dynamic"]
    assert "version" not in project


def test_an_import_loads_no_event_loop():
    """asyncio takes longer to import than all else, and many programs have no loop."""
    heavy = ["asyncio", "ssl", "concurrent.futures", "trio", "watchfiles", "opentelemetry"]
    code = f"import goblins, sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("optimised", [True, False])
def test_an_import_of_a_build_without_optimisation_warns(optimised):
    code = f"""
import importlib, warnings, goblins
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    goblins._goblins._OPTIMISED = {optimised}
    importlib.reload(goblins)
print([str(one.message)[:19] for one in said])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("[]" if optimised else "['goblins was built w']")


def test_the_page_of_the_package_has_no_links_into_the_clone():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / project["readme"]).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_examples_keep_to_stores_of_their_own():
    named = [
        name
        for path in sorted((ROOT / "examples").glob("*.py"))
        for name in set(re.findall(r'path: str = "(.+?)"', path.read_text(encoding="utf-8")))
    ]
    assert sorted(named) == sorted(set(named))


def test_supported_versions_are_the_same_everywhere():
    """In the metadata, in the README, and in the script that finds the interpreters for the gate."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = re.findall(r"Python :: 3\.(\d+)", "\n".join(project["classifiers"]))
    first, last = int(listed[0]), int(listed[-1])
    assert project["requires-python"] == f">=3.{first},<3.{last + 1}"
    assert f"3.{first} to 3.{last}" in (ROOT / "README.md").read_text(encoding="utf-8")
    script = (ROOT / "tools" / "pythons.py").read_text(encoding="utf-8")
    assert re.findall(r"\(3, (\d+)\)", script.split("SUPPORTED")[1].split("\n")[0]) == listed
