"""Which frames are looked at, and how their times are written."""

from __future__ import annotations

import pytest

from nsedge.errors import InvalidParameter
from nsedge.runtime.vision.frames import chosen, clock_times

TIMES = [number / 5 for number in range(20)]
"""Of 4 s, at 5 frames a second."""


@pytest.mark.parametrize(
    ("fps", "frames", "wanted"),
    [
        (None, None, (0, 5, 10, 15)),
        (1.0, None, (0, 5, 10, 15)),
        (0.5, None, (0, 10)),
        (0.01, None, (0,)),
        (2.0, None, (0, 2, 5, 7, 10, 12, 15, 17)),
        (None, 1, (0,)),
        (None, 2, (0, 19)),
        (None, 4, (0, 6, 12, 19)),
        (None, 32, tuple(range(20))),
        (1.0, 3, (0, 5, 15)),
        (5.0, 8, (0, 2, 5, 8, 10, 13, 16, 19)),
    ],
)
def test_frames_are_chosen(fps: float | None, frames: int | None, wanted: tuple[int, ...]) -> None:
    assert chosen(TIMES, 4.0, fps=fps, frames=frames, most=32, usual=(1.0, 8)) == wanted


def test_what_is_usual_is_bounded_and_what_is_asked_for_is_refused() -> None:
    assert len(chosen(TIMES, 4.0, fps=None, frames=None, most=3, usual=(5.0, 8))) == 3
    with pytest.raises(InvalidParameter, match="20 frames; at most 8 are looked at"):
        chosen(TIMES, 4.0, fps=None, frames=20, most=8, usual=(1.0, 8))
    with pytest.raises(InvalidParameter, match="5 frames a second are 20 of 4 s; at most 8"):
        chosen(TIMES, 4.0, fps=5.0, frames=None, most=8, usual=(1.0, 8))


def test_a_frame_that_is_shown_for_long_is_looked_at_once() -> None:
    assert chosen([0.0, 9.5], 10.0, fps=1.0, frames=None, most=16, usual=(1.0, 8)) == (0,)
    assert chosen([0.0, 8.5], 10.0, fps=1.0, frames=None, most=16, usual=(1.0, 8)) == (0, 1)


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        ([0.0, 2.4, 61.0], ["0:00", "0:02", "1:01"]),
        ([3599.0, 3600.0], ["59:59", "1:00:00"]),
        ([0.0, 0.5, 1.0], ["0:00.0", "0:00.5", "0:01.0"]),
        ([0.3], ["0:00"]),
    ],
)
def test_times_are_written_as_on_a_clock(seconds: list[float], wanted: list[str]) -> None:
    assert clock_times(seconds) == wanted
