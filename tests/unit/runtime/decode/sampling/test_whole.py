"""Mirostat and XTC over whole rows, by numbers."""

from __future__ import annotations

import numpy as np
import pytest

from nsedge.api import Mirostat, Xtc
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.steered import Surprise
from nsedge.runtime.decode.sampling.whole import bound_surprise, draw_whole, top_choices

SHARES = np.array([0.0625, 0.25, 0.5, 0.0625, 0.125], np.float32)
"""Of 4, 2, 1, 4 and 3 bits of surprise."""
LOGITS = np.log(SHARES)


@pytest.mark.parametrize(
    ("bound", "kept"),
    [
        (-2000.0, [2]),
        (-1.0, [2]),
        (0.5, [2]),
        (1.01, [2]),
        (2.01, [1, 2]),
        (3.01, [1, 2, 4]),
        (4.01, [0, 1, 2, 3, 4]),
        (2000.0, [0, 1, 2, 3, 4]),
    ],
)
def test_what_is_too_surprising_is_dropped(bound: float, kept: list[int]) -> None:
    weights = SHARES / SHARES.max()
    bound_surprise(weights, bound)
    assert np.flatnonzero(weights).tolist() == kept


def test_a_memory_learns_the_share_of_what_was_kept() -> None:
    row = SamplerRow(SamplingParams(mirostat=Mirostat(tau=1.01, eta=1.0)))
    memory = row.memory
    assert isinstance(memory, Surprise)
    assert (
        draw_whole(LOGITS, row, 0.99, room=np.empty_like(LOGITS)) == 2
    )  # of 1 and 2, in order of id
    assert memory.bound == pytest.approx(2.02 - (np.log2(1.5) - 1.01), rel=1e-5)


@pytest.mark.parametrize(
    ("threshold", "min_keep", "dropped"),
    [
        (0.3, 0, []),
        (0.2, 0, [2]),
        (0.1, 0, [2, 1]),
        (0.05, 0, [2, 1, 4, 0]),  # of two that are alike the one of the lower id
        (0.05, 2, []),
        (0.1, 3, [2, 1]),
    ],
)
def test_top_choices_are_all_but_the_least(
    threshold: float, min_keep: int, dropped: list[int]
) -> None:
    xtc = Xtc(probability=1.0, threshold=threshold)
    found = top_choices(LOGITS, SHARES / SHARES.max(), xtc, min_keep=min_keep)
    assert found.tolist() == dropped


def test_what_is_left_of_tiny_weights_is_drawn_from() -> None:
    """All tokens are likely enough: only the least likely stays, whose weight is no number."""
    row = SamplerRow(SamplingParams(xtc=Xtc(probability=1.0, threshold=0.0)), seed=1)
    row.draw()
    logits = np.array([0.0, -200.0, -90.0], np.float32)
    assert draw_whole(logits, row, 0.5, room=np.empty_like(logits)) == 1
