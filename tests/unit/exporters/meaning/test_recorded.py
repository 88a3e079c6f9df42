"""The pages tell what bench/results/meaning.json has, and that is enough."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from exporters.meaning.__main__ import MODELS
from exporters.meaning.results import Answered, Measured, MeasuredAnswers
from exporters.meaning.vqa import WHOLE_COURSE

ROOT = Path(__file__).resolve().parents[4]
RECORDED = msgspec.json.decode(
    (ROOT / "bench/results/meaning.json").read_bytes(), type=dict[str, msgspec.Raw]
)
VQA = "vqa"


def told(page: str, *cells: str) -> bool:
    """Whether a table of the page has these cells one after the other."""
    row = f"| {' | '.join(cells)} |".replace("%", " %")
    return row in (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RECORDED.keys() - {VQA})
def test_the_page_tells_what_was_recorded(name: str) -> None:
    result = msgspec.json.decode(RECORDED[name], type=Measured)
    _, _, course = MODELS[name]
    assert (result.steps, result.demanded) == (course.steps, course.demanded)
    assert result.passed
    *_, int8, fp32 = result.found
    for which in ("colour", "shape"):
        eight, whole = getattr(int8, which), getattr(fp32, which)
        cells = (f"{eight.pictures}", f"{eight.right:.2%}", f"{whole.right:.2%}")
        assert told("docs/vision.md", *cells)


def test_the_page_tells_what_is_answered() -> None:
    result = msgspec.json.decode(RECORDED[VQA], type=MeasuredAnswers)
    course = (WHOLE_COURSE.words.steps, WHOLE_COURSE.steps, WHOLE_COURSE.demanded)
    assert (result.words_steps, result.steps, result.demanded) == course
    assert result.passed
    assert result.questions >= 1000
    assert result.train_cpu_s is not None
    assert result.train_cpu_s < 30 * 60
    int8, fp32 = (
        next(one.right for one in result.found if one.variant == variant)
        for variant in ("cpu-int8-native", "cpu-fp32")
    )
    assert told("docs/vlm.md", "fine-tuned, int8", f"{int8:.1%}")
    assert told("docs/vlm.md", "fine-tuned, fp32", f"{fp32:.1%}")
    assert told("docs/vlm.md", "before, fp32", f"{result.before:.1%}")
    assert told("docs/vlm.md", "the most usual answer", f"{result.usual:.1%}")
    assert told("docs/vlm.md", "the most usual answer to each question", f"{result.blind:.1%}")
    assert result.blind < result.demanded


@pytest.mark.parametrize(
    ("int8", "fp32", "passed"),
    [(0.95, 0.95, True), (0.95, 0.94, True), (0.94, 0.96, False), (0.89, 0.9, False)],
)
def test_int8_is_to_answer_as_fp32_does(int8: float, fp32: float, passed: bool) -> None:
    shares = {"cpu-int8": int8, "cpu-fp32": fp32}
    result = MeasuredAnswers(
        words_steps=1,
        steps=1,
        batch=1,
        train_cpu_s=None,
        demanded=0.9,
        questions=1000,
        usual=0.4,
        blind=0.7,
        before=0.0,
        found=tuple(Answered(variant=name, right=right) for name, right in shares.items()),
    )
    assert result.passed is passed
