"""How a setting is declared: a typed field of a section, with its meaning, kind and bounds."""

from __future__ import annotations

import msgspec
from msgspec import Meta

FILE_KIND = "an absolute path, credential:NAME, or empty"


def text(meaning: str, kind: str, default: str | None = None) -> Meta:
    """Describe a setting without bounds. `default` is shown where the code has none to show."""
    return Meta(description=meaning, title=kind, extra=None if default is None else {"as": default})


def number(meaning: str, low: float, high: float) -> Meta:
    """Describe a number from `low` to `high`, both included."""
    return Meta(description=meaning, ge=low, le=high)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""
