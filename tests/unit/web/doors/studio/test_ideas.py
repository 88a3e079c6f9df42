"""Ideas in figures, kept over restarts and bounded."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsedge.web.doors.studio.ideas import MAX_CATEGORIES, MAX_IDEAS, OTHER, Ideas
from nsedge.web.doors.studio.studio import FIRST_GUESS, Studio
from nsedge.web.errors import Refused
from tests.fakes import FakeClock


def test_ratings_are_kept_over_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "state" / "ratings.json"
    before = Ideas(file, clock=FakeClock(7.0))
    for name in ("a", "b", "c"):
        before.add(name, "travel", "m")
    before.rate("a", 5)
    before.rate("b", 2)
    before.rate("b", 3)
    content = before.unsaved()
    assert content is not None
    before.save(content)
    assert before.unsaved() is None
    after = Ideas(file)
    assert (after.total, after.categories, after.average_rating) == (3, {"travel": 3}, 4.0)
    assert [(one.id, one.rating, one.at_s) for one in after.latest(9)] == [
        ("c", None, 7.0),
        ("b", 3, 7.0),
        ("a", 5, 7.0),
    ]
    after.rate("a", 1)
    assert after.average_rating == 2.0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5))))
def test_the_average_is_that_of_the_last_rating_of_each(given_stars: list[tuple[int, int]]) -> None:
    ideas = Ideas(None)
    for number in range(5):
        ideas.add(str(number), "c", "m")
    for number, stars in given_stars:
        ideas.rate(str(number), stars)
    last = dict(given_stars).values()
    assert ideas.average_rating == (round(sum(last) / len(last), 4) if last else 0.0)


def test_what_is_kept_is_bounded() -> None:
    ideas = Ideas(None)
    for number in range(MAX_IDEAS + 1):
        ideas.add(str(number), f"category {number}", "m")
    assert ideas.total == MAX_IDEAS + 1
    assert len(list(ideas.latest(MAX_IDEAS * 2))) == MAX_IDEAS
    assert len(ideas.categories) == MAX_CATEGORIES + 1
    assert ideas.categories[OTHER] == MAX_IDEAS + 1 - MAX_CATEGORIES
    with pytest.raises(Refused, match="no idea '0'"):
        ideas.rate("0", 5)
    ideas.rate("1", 5)


def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    file = tmp_path / "ratings.json"
    file.write_text('{"total": "many"}')
    assert Ideas(file).total == 0
    assert file.with_suffix(".broken").exists()


def test_expected_lengths_follow_the_answers() -> None:
    studio = Studio(None, clock=FakeClock())
    assert studio.expected_tokens("m", None) == FIRST_GUESS
    assert studio.expected_tokens("m", 9) == 9
    studio.answered("a", category="c", model="m", tokens=100)
    assert studio.expected_tokens("m", None) == 100
    studio.answered("b", category="c", model="m", tokens=200)
    assert studio.expected_tokens("m", 500) == 120
    assert studio.expected_tokens("other", None) == FIRST_GUESS


def test_streams_are_timed() -> None:
    clock = FakeClock()
    studio = Studio(None, clock=clock)
    assert studio.average_stream_s == 0.0
    for seconds in (1.0, 3.0):
        with studio.session():
            assert studio.active_sessions == 1
            clock.advance(seconds)
    assert (studio.active_sessions, studio.streams, studio.average_stream_s) == (0, 2, 2.0)
