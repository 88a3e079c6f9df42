"""docs/architecture.md names every module of the daemon, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WHOLE_ROOMS = ("cli", "web.doors", "api", "native", "ipc.messages")
"""Told as a whole: a module each for what its name says."""


def told() -> set[str]:
    """The modules in the first column of the tables of rooms."""
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([a-z_.]+)`", row)}


def there() -> set[str]:
    """The modules of the daemon, without the rooms that are told as a whole."""
    root = ROOT / "nsedge"
    paths = [p.relative_to(root).with_suffix("") for p in root.rglob("*.py") if p.stem[:2] != "__"]
    names = {".".join(path.parts) for path in paths}
    return {name for name in names if not name.startswith(tuple(f"{w}." for w in WHOLE_ROOMS))}


def test_every_module_has_its_row() -> None:
    missing = there() - told() - {"version"}
    assert not missing, f"no row for {sorted(missing)}"


def test_every_row_is_of_a_module() -> None:
    root = ROOT / "nsedge"
    places = [name.replace(".", "/") for name in told() if not name.startswith("exporters")]
    gone = [p for p in places if not (root / f"{p}.py").is_file() and not (root / p).is_dir()]
    assert gone == []
