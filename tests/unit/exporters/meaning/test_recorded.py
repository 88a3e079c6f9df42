"""docs/vision.md tells what bench/results/meaning.json has, and that is enough."""

from __future__ import annotations

from pathlib import Path

import msgspec

from exporters.meaning.clip import ClipMeaning
from exporters.meaning.small_clip import WHOLE_COURSE

ROOT = Path(__file__).resolve().parents[4]


def test_the_page_tells_what_was_recorded() -> None:
    recorded = (ROOT / "bench/results/meaning.json").read_bytes()
    result = msgspec.json.decode(recorded, type=ClipMeaning)
    assert (result.steps, result.demanded) == (WHOLE_COURSE.steps, WHOLE_COURSE.demanded)
    assert result.passed
    page = (ROOT / "docs/vision.md").read_text(encoding="utf-8")
    int8, fp32 = result.found
    for which in ("colour", "shape"):
        eight, whole = getattr(int8, which), getattr(fp32, which)
        figures = f"| {eight.pictures} | {eight.right:.2%} | {whole.right:.2%} |"
        assert figures.replace("%", " %") in page
