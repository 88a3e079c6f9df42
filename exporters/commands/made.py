"""What every export of a bundle tells first: where it is, whether it is new, and its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol


class Made(Protocol):
    """The report on a bundle's making."""

    @property
    def bundle(self) -> Path:
        """Where it is."""

    @property
    def made(self) -> bool:
        """Whether it was not there already."""

    @property
    def bytes(self) -> int:
        """Its size."""


def made_result(report: Made) -> dict[str, Any]:
    """For programs."""
    return {"bundle": str(report.bundle), "made": report.made, "bytes": report.bytes}


def made_line(report: Made) -> str:
    """For people."""
    state = "written" if report.made else "up to date"
    return f"{report.bundle}: {state}, {report.bytes / 1e6:.0f} MB"
