"""docs/security.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
_NAMED = re.compile(r"`((?:tests/[\w/]+\.py)?)::(\w+)`")


def named() -> list[tuple[str, str]]:
    """Every test that the page names: its file and its function."""
    found, file = [], ""
    for path, name in _NAMED.findall((ROOT / "docs" / "security.md").read_text(encoding="utf-8")):
        file = path or file
        found.append((file, name))
    return found


def test_every_boundary_is_held_by_a_test_there_is() -> None:
    tests = named()
    assert len(tests) >= 40
    missing = [
        f"{file}::{name}"
        for file, name in tests
        if not (ROOT / file).is_file()
        or f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert missing == []
