"""How near a form of the graphs is to fp32, over what fp32 writes of golden inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np

from exporters.conditioned.runner import ConditionedRunner, Floats, Rule, anything
from exporters.measure.fidelity import divergence
from exporters.measure.runner import log_softmax
from nsedge.bundle.conditioning import ConditionedFidelity

F = TypeVar("F", bound=ConditionedFidelity)


class Trial(msgspec.Struct, Generic[F], frozen=True, kw_only=True):
    """What was found of a form of the graphs. `golden`: the share of the golden inputs' tokens that
    are the likeliest; `texts`: what it writes of them."""

    fidelity: F
    golden: float
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A golden input as the encoder reads it, and what fp32 writes of it."""

    given: Floats
    prompt: tuple[int, ...]
    written: tuple[int, ...]

    def log_probs(self, runner: ConditionedRunner) -> Floats:
        """Log-probabilities [T, V] before each token that fp32 writes."""
        runner.encode(self.given)
        return log_softmax(runner.logits([*self.prompt, *self.written[:-1]], len(self.prompt) - 1))

    def likelihoods(self, runner: ConditionedRunner) -> tuple[float, ...]:
        """The log-probability (nats) of each of these tokens."""
        rows = self.log_probs(runner)
        likely = rows[np.arange(len(self.written)), self.written]
        return tuple(round(float(each), 5) for each in likely)


def nearness(
    exact: ConditionedRunner, runner: ConditionedRunner, samples: Sequence[Sample]
) -> dict[str, Any]:
    """How near `runner` is to fp32: the fields of `ConditionedFidelity`."""
    kl: list[float] = []
    agree: list[bool] = []
    for sample in samples:
        wanted, found = sample.log_probs(exact), sample.log_probs(runner)
        kl += [divergence(w, f) for w, f in zip(wanted, found, strict=True)]
        agree += (wanted.argmax(-1) == found.argmax(-1)).tolist()
    return {
        "positions": len(kl),
        "kl": round(float(np.mean(kl)), 6),
        "top1": round(float(np.mean(agree)), 4),
    }


def golden_share(
    runner: ConditionedRunner, samples: Sequence[Sample], rule: Rule = anything
) -> float:
    """The share of fp32's tokens that are the likeliest, as the rule leaves them."""
    hits: list[bool] = []
    for sample in samples:
        rows = sample.log_probs(runner)
        for place, row in enumerate(rows):
            rule(row, sample.written[:place])
        hits += (rows.argmax(-1) == np.array(sample.written)).tolist()
    return round(float(np.mean(hits)), 4)
