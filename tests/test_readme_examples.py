"""What the documentation shows, runs: each Python block of README and docs, and each example.

A block is complete in itself: it is run as a script of its own, in an empty folder.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import child_environment

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks():
    for page in filter(Path.exists, PAGES):
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            yield pytest.param(page, line, match[1], id=f"{page.name}:{line}")


def run(arguments, folder):
    ran = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran


@pytest.mark.parametrize(("page", "line", "code"), list(blocks()))
def test_a_block_of_the_documentation_runs(tmp_path, page, line, code):
    script = tmp_path / "example.py"
    # The empty lines make the line numbers of a traceback those of the page.
    script.write_text("\n" * (line - 1) + code, encoding="utf-8")
    folder = tmp_path / "here"
    folder.mkdir()
    run([script], folder)


@pytest.mark.parametrize(
    "example", [pytest.param(path, id=path.name) for path in sorted((ROOT / "examples").glob("*.py"))]
)
def test_an_example_runs(tmp_path, example):
    run([example], tmp_path)


def test_the_readme_has_an_example():
    assert any(page.values[0].name == "README.md" for page in blocks())


def test_the_example_of_the_readme_goes_on_where_it_stopped_and_prints_what_it_says(tmp_path):
    page, _, code = next(iter(blocks())).values
    script = tmp_path / "example.py"
    script.write_text(code, encoding="utf-8")
    folder = tmp_path / "here"
    folder.mkdir()
    first, second = run([script], folder).stdout.strip(), run([script], folder).stdout.strip()
    assert f"The first run prints `{first}`, the second `{second}`" in page.read_text(encoding="utf-8")


def test_the_bank_of_the_examples_goes_on_where_it_stopped(tmp_path):
    bank = ROOT / "examples" / "bank.py"
    first, second = (run([bank, tmp_path / "bank.db"], tmp_path).stdout.splitlines() for _ in range(2))
    assert first[0] == "Ada has 0 after 0 entries"
    assert second[0] == first[2]
    assert (first[3], second[3]) == ("all together: 100", "all together: 200")


def test_the_two_vats_of_the_examples_find_each_other_in_both_orders(tmp_path):
    """REG-05, REG-08"""
    lines = run([ROOT / "examples" / "two_vats.py", tmp_path], tmp_path).stdout.splitlines()
    assert [line for line in lines if line.startswith("restarted")] == [
        "restarted a first: the same cell: True, which says 'hello from b'",
        "restarted b first: the same cell: True, which says 'hello from b'",
    ]
    assert "the early message: hello from b" in lines


def test_the_examples_are_there():
    assert list((ROOT / "examples").glob("*.py"))
