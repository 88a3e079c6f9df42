"""What questions and answers tell of a picture."""

from __future__ import annotations

import pytest

from exporters.meaning.easy_vqa import COLOURS, facts


@pytest.mark.parametrize(
    ("questions", "true"),
    [
        ([("what color is the circle?", "red")], {"circle", "red"}),
        ([("what is the blue shape?", "triangle")], {"blue", "triangle"}),
        ([("is there a black shape?", "yes")], {"black"}),
        ([("is there a black shape?", "no")], set()),
        ([("is there not a black shape in the image?", "no")], {"black"}),
        ([("is no circle present?", "no")], {"circle"}),
        ([("is no circle present?", "yes")], set()),
        ([("is a circle present?", "no"), ("is a triangle present?", "no")], {"rectangle"}),
        ([(f"is there a {one} shape?", "no") for one in COLOURS - {"teal"}], {"teal"}),
    ],
)
def test_facts(questions: list[tuple[str, str]], true: set[str]) -> None:
    assert facts([(*one, 7) for one in questions])[7] == true
