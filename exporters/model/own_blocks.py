"""The blocks of small integers that a source itself keeps its weights in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class OwnBlocks:
    """A matrix [N, K] in blocks of `block` weights along K.

    q uint8 [N, K / block, block] in 0 .. 2^bits - 1, scales float32 [N, K / block], and offsets of
    the same shape or none. A weight is scale * (q - 2^(bits - 1)) + offset.
    """

    bits: int
    block: int
    q: NDArray[np.uint8]
    scales: NDArray[np.float32]
    offsets: NDArray[np.float32] | None

    @property
    def middle(self) -> int:
        """What of q stands for the offset alone."""
        return 1 << (self.bits - 1)

    def rows(self, order: NDArray[np.int64]) -> OwnBlocks:
        """These rows, in this order."""
        offsets = None if self.offsets is None else self.offsets[order]
        return replace(self, q=self.q[order], scales=self.scales[order], offsets=offsets)
