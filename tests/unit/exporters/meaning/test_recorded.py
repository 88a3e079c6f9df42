"""docs/vision.md tells what bench/results/meaning.json has, and that is enough."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from exporters.meaning.__main__ import MODELS
from exporters.meaning.results import Measured

ROOT = Path(__file__).resolve().parents[4]
RECORDED = msgspec.json.decode(
    (ROOT / "bench/results/meaning.json").read_bytes(), type=dict[str, Measured]
)


@pytest.mark.parametrize("name", RECORDED)
def test_the_page_tells_what_was_recorded(name: str) -> None:
    result, (_, _, course) = RECORDED[name], MODELS[name]
    assert (result.steps, result.demanded) == (course.steps, course.demanded)
    assert result.passed
    page = (ROOT / "docs/vision.md").read_text(encoding="utf-8")
    *_, int8, fp32 = result.found
    for which in ("colour", "shape"):
        eight, whole = getattr(int8, which), getattr(fp32, which)
        figures = f"| {eight.pictures} | {eight.right:.2%} | {whole.right:.2%} |"
        assert figures.replace("%", " %") in page
