"""What is got by saying the same of every picture, or of every picture that a question is about."""

from __future__ import annotations

from exporters.meaning.easy_vqa import Shown
from exporters.meaning.questions import Asked, blind_share, usual_share


def asked(*questions: tuple[str, str]) -> Asked:
    return Asked(shown=Shown(png=b"", colour=None, shape=None), questions=questions)


def test_the_usual_share_is_that_of_the_most_frequent_answer() -> None:
    assert usual_share(["yes", "no", "red", "yes"]) == 0.5


def test_who_looks_at_no_picture_gets_what_a_question_mostly_gets() -> None:
    learnt = [
        asked(("red?", "no"), ("round?", "yes")),
        asked(("red?", "no")),
        asked(("red?", "yes")),
    ]
    questions = [("red?", "no"), ("red?", "yes"), ("round?", "yes"), ("blue?", "no")]
    assert blind_share(learnt, questions) == 0.5
