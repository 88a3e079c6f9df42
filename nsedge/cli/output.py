"""Text, tables and JSON for a terminal or a pipe."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence

import msgspec

from nsedge.api import Event
from nsedge.ipc.events import tag_of
from nsedge.printable import escaped, escaped_json
from nsedge.process import console

_KEPT_CONTROLS = "\n\t"
_UNSAFE = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(0x20), *range(0x7F, 0xA0))
    if chr(code) not in _KEPT_CONTROLS
}


def say(text: str) -> None:
    """Write a piece of model text at once; a terminal gets no control sequences from a model.

    Raises:
        OutputLost: it cannot be written.
        BrokenPipeError: nobody reads any more.
    """
    console.write(text.translate(_UNSAFE) if sys.stdout.isatty() else text)


def say_json(value: object) -> None:
    """Write one JSON object a line; dataclasses, enums and structs are told as they are.

    Raises:
        OutputLost: it cannot be written.
        BrokenPipeError: nobody reads any more.
    """
    plain = _finite(msgspec.to_builtins(value))
    ascii_only = not console.encodes_everything(sys.stdout)
    line = json.dumps(plain, ensure_ascii=ascii_only, allow_nan=False)
    console.write(f"{escaped_json(line)}\n")


def _finite(value: object) -> object:
    """`value` with null for what JSON has no number for: a time without end."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def event_object(event: Event) -> dict[str, object]:
    """An event as JSON tells it: its fields, and `type` first."""
    fields: dict[str, object] = msgspec.to_builtins(event)
    return {"type": tag_of(event), **fields}


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Columns as wide as they must be; numbers to the right. What others chose stays in its row."""
    cells = [[escaped(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    numeric = [all(isinstance(row[at], int | float) for row in rows) for at in range(len(heads))]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in [list(heads), *cells]
    ]


def seconds_text(seconds: float | None) -> str:
    """A duration that may be without end, or not known: "300 s", "forever", "-"."""
    if seconds is None:
        return "-"
    return "forever" if math.isinf(seconds) else f"{seconds:.3g} s"


def bytes_text(count: int) -> str:
    """A size in binary units: 1536 -> "1.5 KiB"."""
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
