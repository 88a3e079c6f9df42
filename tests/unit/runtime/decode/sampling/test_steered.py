"""Mirostat and adaptive-p: by numbers, and what they hold over many tokens."""

from __future__ import annotations

import numpy as np
import pytest

from nsedge.api import AdaptiveP, Mirostat
from nsedge.runtime.decode.sampling.candidates import Candidates
from nsedge.runtime.decode.sampling.logits import HostLogits
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.sampler import Sampler
from nsedge.runtime.decode.sampling.steered import BoundSurprise, Nearness, PreferNear, Surprise

SHARES = (0.5, 0.25, 0.125, 0.0625, 0.0625)
"""Of 1, 2, 3, 4 and 4 bits of surprise."""


def candidates() -> Candidates:
    logits = np.log(np.array([SHARES])).astype(np.float32)
    return Candidates.of(HostLogits(logits), [0], np.ones(1), 5)


def held(tau: float, eta: float = 0.1) -> SamplerRow:
    return SamplerRow(SamplingParams(mirostat=Mirostat(tau=tau, eta=eta)), seed=3)


@pytest.mark.parametrize(
    ("tau", "kept"), [(0.0, 1), (0.49, 1), (0.51, 1), (1.01, 2), (1.51, 3), (1.99, 3), (2.01, 5)]
)
def test_what_is_too_surprising_is_dropped(tau: float, kept: int) -> None:
    """The bound begins at 2 tau bits; the likeliest always stays."""
    best = candidates()
    BoundSurprise().apply(best, [0], [held(tau)])
    assert np.count_nonzero(best.weights) == kept
    told = np.array(SHARES) * (np.arange(5) < kept)
    np.testing.assert_allclose(best.told[0], told / told.sum(), rtol=1e-6)


def test_the_bound_moves_by_what_the_surprise_was_off() -> None:
    memory = Surprise(Mirostat(tau=3.0, eta=0.5))
    memory.learn(0.25)
    assert memory.bound == pytest.approx(6.0 - 0.5 * (2.0 - 3.0))
    memory.learn(1.0)
    assert memory.bound == pytest.approx(6.5 - 0.5 * (0.0 - 3.0))


def test_the_target_makes_up_for_what_was_drawn() -> None:
    memory = Nearness(AdaptiveP(target=0.5, decay=0.5))
    assert memory.target == pytest.approx(0.5)
    memory.learn(0.9)  # the mean is (0.9 + 0.5 * 1.0) / (1 + 0.5 * 2) = 0.7
    assert memory.target == pytest.approx(0.3)
    memory.learn(1.0)  # and (1.0 + 0.5 * 1.4) / (1 + 0.5 * 2) = 0.85
    assert memory.target == pytest.approx(0.15)
    for _ in range(9):
        memory.learn(1.0)
    assert memory.target == pytest.approx(0.0, abs=1e-3)


def test_nearness_by_numbers() -> None:
    row = SamplerRow(SamplingParams(adaptive_p=AdaptiveP(target=0.25)))
    best = candidates()
    best.keep([0], np.array([[True, True, True, False, False]]))
    PreferNear().apply(best, [0], [row])
    shares = np.array([4, 2, 1]) / 7
    far = np.abs(shares - 0.25) / 0.3
    wanted = np.exp(5 - 10 * far**2 / (1 + far))
    np.testing.assert_allclose(best.weights[0, :3], wanted / wanted.max(), rtol=1e-5)
    assert best.weights[0, 3:].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(best.told[0][:3], shares, rtol=1e-6)


def drawn_shares(row: SamplerRow, tokens: int) -> list[float]:
    """What the model itself gave the tokens that were drawn, of logits that are always new."""
    rng, sampler, found = np.random.default_rng(1), Sampler(end_ids=[]), []
    for _ in range(tokens):
        logits = (rng.standard_normal(2000) * 2.5).astype(np.float32)
        (draw,) = sampler.sample(HostLogits(logits[None].copy()), [row])
        assert draw is not None
        row.accept(draw.id)
        weights = np.exp(logits.astype(np.float64) - logits.max())
        found.append(weights[draw.id] / weights.sum())
    return found


@pytest.mark.parametrize("tau", [2.0, 4.0, 6.0])
def test_over_many_tokens_the_surprise_is_the_wanted_one(tau: float) -> None:
    """Told as mirostat measures it: among what it kept."""
    row = held(tau)
    memory, surprises = row.memory, []
    assert isinstance(memory, Surprise)
    for _ in range(60):
        before = memory.bound
        drawn_shares(row, 10)
        surprises.append(tau + (before - memory.bound) / 10 / 0.1)
    assert np.mean(surprises[10:]) == pytest.approx(tau, abs=0.25)


def test_over_many_tokens_the_share_follows_the_target() -> None:
    means = []
    for target in (0.1, 0.25):
        near = AdaptiveP(target=target)
        row = SamplerRow(SamplingParams(min_p=0.1, adaptive_p=near), seed=2)
        means.append(float(np.mean(drawn_shares(row, 400))))
    plain = float(np.mean(drawn_shares(SamplerRow(SamplingParams(min_p=0.1), seed=2), 400)))
    assert means[0] < means[1]
    assert means[0] < plain
