"""The tokens of a window to segments, and where the next window begins."""

from __future__ import annotations

import pytest

from nsedge.runtime.speech.segments import cut
from tests.unit.runtime.speech.rig import ENGLISH, said

CASES = {
    "one segment that ends before the window does": (
        said(0.0, " Hello.", 2.0),
        3000,
        [(0.0, 2.0, said(0.0, " Hello.", 2.0))],
        3000,
    ),
    "two segments": (
        said(0.0, " a", 2.0, 2.5, " b", 4.0),
        3000,
        [(0.0, 2.0, said(0.0, " a", 2.0)), (2.5, 4.0, said(2.5, " b", 4.0))],
        3000,
    ),
    "what is not closed is heard again": (
        said(0.0, " a", 2.0, 2.5, " b"),
        3000,
        [(0.0, 2.0, said(0.0, " a", 2.0))],
        200,
    ),
    "a pair at the end": (
        said(0.0, " a", 2.0, 2.0),
        3000,
        [(0.0, 2.0, said(0.0, " a", 2.0))],
        200,
    ),
    "text alone is as long as the sound": (said(" a"), 500, [(0.0, 5.0, said(" a"))], 500),
    "text that nothing closes is as long as the sound": (
        said(0.5, " a"),
        500,
        [(0.5, 5.0, said(0.5, " a"))],
        500,
    ),
    "no segment ends behind the sound": (
        said(0.0, " a", 9.0),
        500,
        [(0.0, 5.0, said(0.0, " a", 9.0))],
        500,
    ),
    "a segment that takes no time is none": (
        said(0.0, " a", 2.0, 3.0, " b", 3.0),
        3000,
        [(0.0, 2.0, said(0.0, " a", 2.0))],
        3000,
    ),
    "timestamps alone are no segment": (said(0.0), 3000, [], 3000),
    "nothing at all": ((), 3000, [], 3000),
    "a window that was not heard any further is passed over": (
        said(0.0, 0.0, " a"),
        3000,
        [],
        3000,
    ),
    "nor beyond what there is": (
        said(0.0, " a", 4.0, 9.0, " b"),
        300,
        [(0.0, 3.0, said(0.0, " a", 4.0))],
        300,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_window_is_cut_at_its_timestamps(case: tuple) -> None:
    drawn, frames, stretches, advance = case
    found = cut(drawn, frames, ENGLISH)
    told = [(round(one.start_s, 6), round(one.end_s, 6), one.tokens) for one in found.stretches]
    assert told == stretches
    assert found.advance == advance
