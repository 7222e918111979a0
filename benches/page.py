"""The page of figures, `docs/benchmarks.md`: each bench writes a section of it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{platform.system()}, {python}, {os.cpu_count()} cores"


def write_section(title: str, text: str) -> None:
    """Puts a section into the page, in place of the old one of that title."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "# Benchmarks\n"
    heading = f"## {title}\n"
    before, _, after = page.partition(heading)
    _, mark, rest = after.partition("\n## ")
    PAGE.write_text(f"{before.rstrip()}\n\n{heading}\n{text.rstrip()}\n{mark}{rest}", encoding="utf-8")
