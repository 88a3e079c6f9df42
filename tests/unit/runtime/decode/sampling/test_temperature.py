"""Temperature, fixed and following the entropy, by numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nsedge.api import DynamicTemperature
from nsedge.runtime.decode.sampling.candidates import Candidates
from nsedge.runtime.decode.sampling.logits import HostLogits
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.temperature import Temperature

HALF = (0.5, 0.25, 0.125, 0.125)
"""Their entropy is 1.75 ln 2, of 2 ln 2 at most."""
EVEN = (0.25, 0.25, 0.25, 0.25)
SURE = (1.0 - 3e-9, 1e-9, 1e-9, 1e-9)


def logits_of(shares: tuple[float, ...]) -> HostLogits:
    return HostLogits(np.log(np.array([shares])).astype(np.float32))


def dynamic(temperature: float, range_: float, exponent: float = 1.0) -> SamplerRow:
    follows = DynamicTemperature(range=range_, exponent=exponent)
    return SamplerRow(SamplingParams(temperature=temperature, dynamic_temperature=follows))


@pytest.mark.parametrize(
    ("shares", "row", "expected"),
    [
        (HALF, SamplerRow(SamplingParams(temperature=0.7)), 0.7),
        (EVEN, dynamic(1.0, 0.5), 1.5),
        (SURE, dynamic(1.0, 0.5), 0.5),
        (HALF, dynamic(1.0, 0.5), 0.5 + 1.0 * 1.75 / 2),
        (HALF, dynamic(1.0, 0.5, 2.0), 0.5 + 1.0 * (1.75 / 2) ** 2),
        (EVEN, dynamic(0.5, 2.0), 2.5),
        # The least is held to 0, and 0 is no divisor.
        (SURE, dynamic(0.5, 2.0, 100.0), 1e-6),
    ],
)
def test_by_numbers(shares: tuple[float, ...], row: SamplerRow, expected: float) -> None:
    step, logits = Temperature(), logits_of(shares)
    (first,) = step.first(logits, [0], [row])
    assert first == pytest.approx(expected, rel=1e-5)
    best = Candidates.of(logits, [0], np.ones(1), 4)
    step.apply(best, [0], [row])
    assert best.temperatures[0] == pytest.approx(expected, rel=1e-5)
    wanted = np.exp(np.log(np.array(shares) / max(shares)) / expected)
    np.testing.assert_allclose(best.weights[0], np.maximum(wanted, 5e-324), rtol=1e-4)


def test_behind_a_filter_the_entropy_is_of_what_is_left() -> None:
    best = Candidates.of(logits_of(HALF), [0], np.ones(1), 4)
    best.keep([0], np.array([[True, True, False, False]]))
    Temperature().apply(best, [0], [dynamic(1.0, 0.5)])
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert best.temperatures[0] == pytest.approx(0.5 + entropy / math.log(2), rel=1e-6)
    assert best.weights[0, 2:].tolist() == [0.0, 0.0]


def test_one_token_that_is_left_has_the_temperature_itself() -> None:
    logits = HostLogits(np.array([[1.0, -np.inf, -np.inf]], np.float32))
    assert Temperature().first(logits, [0], [dynamic(0.8, 0.5)]).tolist() == [0.8]


def test_behind_excluded_top_choices_the_entropy_is_of_the_others_seen_or_not() -> None:
    shares = np.concatenate([[0.3, 0.2, 0.1], 0.4 / 997 * np.linspace(1.5, 0.5, 997)])
    logits = HostLogits(np.log(shares).astype(np.float32)[None])
    row = dynamic(1.0, 0.5)
    best = Candidates.of(logits, [0], np.ones(1), 16)
    assert best.outside[0] > 0
    best.keep([0], np.arange(best.weights.shape[1])[None] >= 2, tail=True)
    Temperature().apply(best, [0], [row])
    left = shares[2:] / shares[2:].sum()
    entropy = -float((left * np.log(left)).sum())
    assert best.temperatures[0] == pytest.approx(0.5 + entropy / math.log(998), rel=1e-5)
