"""Where the recordings lie that graphs are made with and held to."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "data" / "speech"


def golden_clips() -> list[Path]:
    """Recordings whose text fp32 is asked for, and that fidelity is measured over."""
    return sorted(FOLDER.glob("golden-*"))


def calibration_clips() -> list[Path]:
    """Recordings that ranges are taken from; fidelity is measured over none of them."""
    return sorted(FOLDER.glob("calibration-*"))
