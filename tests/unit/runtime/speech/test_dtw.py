"""Dynamic time warping, held to a slow one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.runtime.speech.dtw import median_filtered, path, token_times
from tests.unit.runtime.speech.rig import straight


def slow_cost(cost: NDArray[np.float64]) -> float:
    """The cost of the cheapest way, cell by cell."""
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for row in range(rows):
        for column in range(columns):
            before = min(total[row, column], total[row, column + 1], total[row + 1, column])
            total[row + 1, column + 1] = cost[row, column] + before
    return float(total[rows, columns])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 5), (7, 40), (40, 7)])
def test_the_way_is_the_cheapest_and_goes_by_single_steps(shape: tuple[int, int]) -> None:
    cost = np.random.default_rng(sum(shape)).normal(size=shape)
    rows, columns = path(cost)
    assert (rows[0], columns[0], rows[-1], columns[-1]) == (0, 0, shape[0] - 1, shape[1] - 1)
    steps = set(zip(np.diff(rows).tolist(), np.diff(columns).tolist(), strict=True))
    assert steps <= {(0, 1), (1, 0), (1, 1)}
    assert cost[rows, columns].sum() == pytest.approx(slow_cost(cost))


@pytest.mark.parametrize("positions", [4, 7, 40])
def test_the_median_is_of_seven_mirrored_at_the_edges(positions: int) -> None:
    values = np.random.default_rng(positions).normal(size=(3, 5, positions)).astype(np.float32)
    padded = np.pad(values, ((0, 0), (0, 0), (3, 3)), mode="reflect")
    wanted = [np.median(padded[..., at : at + 7], axis=-1) for at in range(positions)]
    assert np.array_equal(median_filtered(values), np.stack(wanted, axis=-1))
    assert median_filtered(values[..., :3]).shape == (3, 5, 3)


def test_tokens_begin_where_the_heads_look() -> None:
    times = token_times(straight(4, 1000).weights)
    assert times.tolist() == pytest.approx([0.0, 2.0, 4.0, 6.0, 8.0], abs=0.03)
