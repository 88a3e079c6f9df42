"""Windows of a recording."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from nsedge.runtime.audio.recording import MARGIN, Recording
from nsedge.runtime.audio.samples import FRAME, WINDOW, Samples


class Ramp:
    """A sound whose samples count up."""

    def __init__(self, size: int, block: int = 7_000) -> None:
        self.size, self.block, self.taken = size, block, 0

    def blocks(self) -> Iterator[Samples]:
        for begin in range(0, self.size, self.block):
            self.taken = min(self.size, begin + self.block)
            yield np.arange(begin, self.taken, dtype=np.float32)


def expected(size: int, start: int) -> Samples:
    whole = np.zeros(max(size, start * FRAME) + WINDOW + 2 * MARGIN, np.float32)
    whole[MARGIN : MARGIN + size] = np.arange(size)
    whole[:MARGIN] = whole[2 * MARGIN : MARGIN : -1]
    return whole[start * FRAME : start * FRAME + WINDOW + 2 * MARGIN]


@pytest.mark.parametrize("size", [1, 159, 160, 161, 480_000, 480_001, 1_000_000])
def test_windows_are_slices_of_the_sound(size: int) -> None:
    recording = Recording(Ramp(size))
    for start in (0, 1, 700, 3000, 3001, 6250):
        window = recording.window(start)
        assert np.array_equal(window.samples, expected(size, start)), start
        left = max(0, size - start * FRAME)
        assert window.frames == min(3000, -(-left // FRAME))
        assert window.is_last == (left <= WINDOW)


def test_no_more_is_decoded_or_held_than_a_window_needs() -> None:
    ramp = Ramp(16_000 * 3600)
    recording = Recording(ramp)
    for start in range(0, 60_000, 2_900):
        recording.window(start)
        assert ramp.taken <= start * FRAME + WINDOW + MARGIN + ramp.block
        assert recording._held.nbytes <= 4 * (WINDOW + 2 * MARGIN + ramp.block)


def test_no_sound_is_no_window() -> None:
    window = Recording(Ramp(0)).window(0)
    assert (window.frames, window.is_last, window.is_silent) == (0, True, True)


@pytest.mark.parametrize(("loudest", "silent"), [(0.0, True), (9e-5, True), (2e-4, False)])
def test_a_window_without_anything_to_hear_is_silent(loudest: float, silent: bool) -> None:
    class Source:
        def blocks(self) -> Iterator[Samples]:
            yield np.full(1000, -loudest, np.float32)

    assert Recording(Source()).window(0).is_silent is silent
