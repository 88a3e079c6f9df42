"""An encoder's golden samples: the vectors of fp32 must lie near those that are made here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.encoder import VectorVariant
from nsedge.errors import BundleInvalid

MARGIN = 0.005
"""How far below the least cosine of the export one may be here: kernels round in other ways on
other processors."""
LEAST_COSINE = 0.98
"""Where an export recorded no cosine."""


@dataclass(frozen=True, kw_only=True)
class Nearness:
    """How near the vectors of golden texts are to those of fp32."""

    texts: int
    least_cosine: float


def judge(
    vectors: NDArray[np.float32],
    golden: Sequence[Sequence[float]],
    *,
    variant: VectorVariant,
    name: str,
    what: str = "texts",
) -> Nearness:
    """Hold the vectors [texts, dimensions] that `variant` of the bundle `name` made of golden
    texts, or of `what` they are, to those of fp32, with what was recorded of it.

    Raises:
        BundleInvalid: one is too far away.
    """
    wanted = np.array(golden, np.float32)
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(wanted, axis=1)
    cosines = (vectors * wanted).sum(axis=1) / np.maximum(norms, 1e-12)
    fidelity = variant.fidelity
    least = LEAST_COSINE if fidelity is None else fidelity.cosine_least - MARGIN
    if not (cosines >= least).all():  # false for NaN, too
        raise BundleInvalid(
            f"{name}: variant {variant.name} makes vectors of golden {what} with a cosine of"
            f" {cosines.min():.4f} to those of fp32; {least:.4f} at least was to be expected"
        )
    return Nearness(texts=len(golden), least_cosine=round(float(cosines.min()), 6))
