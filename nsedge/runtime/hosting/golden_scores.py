"""A headed encoder's golden texts: the scores of fp32 must lie near those that are made here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Activation
from nsedge.bundle.headed import (
    AnyHead,
    GoldenScores,
    HeadVariant,
    SequenceClassification,
)
from nsedge.errors import BundleInvalid
from nsedge.runtime.text.segments import Reading
from nsedge.runtime.text.spans import softmax

Floats = NDArray[np.float32]

MARGIN = 0.05
"""How much farther than the farthest of the export a score may be here: kernels round in other ways
on other processors."""
MOST_ERROR = 0.1
"""Where an export recorded nothing."""


@dataclass(frozen=True, kw_only=True)
class Closeness:
    """How near the scores of golden texts are to those of fp32."""

    rows: int
    greatest_error: float


def activated(logits: Floats, activation: Activation) -> Floats:
    """Logits [..., labels] as scores."""
    if activation is Activation.SOFTMAX:
        return softmax(logits)
    if activation is Activation.SIGMOID:
        small = np.exp(-np.abs(logits))
        return np.asarray(np.where(logits >= 0, 1.0, small) / (1.0 + small), np.float32)
    return logits


def activation_of(head: AnyHead) -> Activation:
    """How a head's logits become scores."""
    return head.activation if isinstance(head, SequenceClassification) else Activation.SOFTMAX


def reading_of(sample: GoldenScores) -> Reading:
    """A golden sample as it is read."""
    return Reading(ids=sample.ids, second=sample.second, places=sample.places)


def rows_of(logits: Sequence[Floats], head: AnyHead) -> list[Floats]:
    """The scores of each text as rows [rows, labels]: of the text, its tokens, or its masks."""
    return [np.atleast_2d(activated(one, activation_of(head))) for one in logits]


def greatest_error(found: Sequence[Floats], golden: Sequence[GoldenScores]) -> float:
    """Between the scores [rows, labels] of golden texts and those recorded; by the greatest of
    these where that is above 1, as logits are."""
    errors = [
        np.abs(row[list(wanted.labels)] - np.array(wanted.scores, np.float32)).max()
        for rows, sample in zip(found, golden, strict=True)
        for row, wanted in zip(rows, sample.rows, strict=True)
    ]
    return relative(float(np.array(errors).max()), golden)


def relative(error: float, golden: Sequence[GoldenScores]) -> float:
    """An error by the greatest golden score where that is above 1."""
    scores = (abs(one) for sample in golden for row in sample.rows for one in row.scores)
    return error / max(1.0, *scores)


def judge(
    logits: Sequence[Floats],
    golden: Sequence[GoldenScores],
    *,
    head: AnyHead,
    variant: HeadVariant,
    name: str,
) -> Closeness:
    """Hold what `variant` of the bundle `name` made of `golden` to what was recorded of it.

    Raises:
        BundleInvalid: a score is too far away.
    """
    return judge_error(
        greatest_error(rows_of(logits, head), golden), golden, variant=variant, name=name
    )


def judge_error(
    error: float, golden: Sequence[GoldenScores], *, variant: HeadVariant, name: str
) -> Closeness:
    """The same of the greatest error that was found."""
    fidelity = variant.fidelity
    most = MOST_ERROR if fidelity is None else fidelity.error_most + MARGIN
    if not error <= most:  # false for NaN, too
        raise BundleInvalid(
            f"{name}: variant {variant.name} gives golden texts scores that differ by {error:.4f}"
            f" from those of fp32; {most:.4f} at most was to be expected"
        )
    rows = sum(len(sample.rows) for sample in golden)
    return Closeness(rows=rows, greatest_error=round(error, 6))
