"""docs/conformance.md: every test that it names exists, and every item stands there once."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "docs" / "conformance.md"
ITEM = re.compile(r"[A-Z]{2,3}-\d\d")
# How many items the sections have that are compared as a whole.
COMPLETE = {
    "ACT": 21,
    "TRN": 18,
    "SYN": 10,
    "ASY": 39,
    "AWT": 13,
    "VAT": 23,
    "POR": 38,
    "ENV": 11,
    "STO": 22,
    "PV": 25,
    "AM": 19,
    "LIB": 23,
    "LOG": 26,
    "SLP": 6,
    "MIG": 9,
    "HOT": 13,
    "REG": 14,
    "OID": 7,
}


def rows():
    """Item, what the original does, what ours does, and tests: for each row."""
    found = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if cells[0].strip() not in ("item", "---|---|---|---"):
            found.append(cells)
    return found


ROWS = rows()


def names_in(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".rs":
        return set(re.findall(r"^\s*fn (\w+)\(", text, re.MULTILINE))
    nodes = ast.walk(ast.parse(text))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_rows_have_an_item_what_both_do_and_tests():
    assert len(ROWS) >= sum(COMPLETE.values())
    for cells in ROWS:
        assert len(cells) == 4, cells
        item, original, ours, tests = cells
        assert ITEM.fullmatch(item), cells
        assert len(original) > 10, cells
        assert ours.startswith(("same", "differs: ", "not ours: ")), cells
        assert tests != "-" or ours.startswith("not ours: "), cells


def test_each_item_stands_there_once():
    counts = Counter(cells[0] for cells in ROWS)
    assert [item for item, count in counts.items() if count > 1] == []


def test_all_limits_of_the_original_stand_there():
    taken_back = {"LIM-18", "LIM-41"}
    wanted = [f"LIM-{number:02}" for number in range(1, 47)]
    found = [cells[0] for cells in ROWS if cells[0].startswith("LIM")]
    assert found == [item for item in wanted if item not in taken_back]


@pytest.mark.parametrize("kind", sorted(COMPLETE))
def test_sections_are_complete(kind):
    items = [cells[0] for cells in ROWS if cells[0].startswith(kind)]
    assert items == [f"{kind}-{number:02}" for number in range(1, COMPLETE[kind] + 1)]


def test_each_test_that_is_named_exists():
    known = {}
    named = [name for cells in ROWS for name in cells[3].split(", ") if name != "-"]
    assert named
    missing = []
    for name in named:
        file, _, function = name.partition("::")
        folder = ROOT / ("rust/core/tests" if file.endswith(".rs") else "tests")
        if file not in known:
            known[file] = names_in(folder / file)
        if function not in known[file] or not (file.endswith(".rs") or function.startswith("test_")):
            missing.append(name)
    assert missing == []
