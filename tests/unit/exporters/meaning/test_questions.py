"""What is got by saying the same of every picture."""

from __future__ import annotations

from exporters.meaning.questions import usual_share


def test_the_usual_share_is_that_of_the_most_frequent_answer() -> None:
    assert usual_share(["yes", "no", "red", "yes"]) == 0.5
