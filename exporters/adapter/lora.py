"""A LoRA that is served beside its base: the matrices of each module."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporters.errors import ExportError, Refused
from exporters.model.lora import Lora, Part, Role

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class ServedLora:
    """Module -> float32 [rank, input width] and [rank, output width]; the second is scaled."""

    matrices: dict[str, Pair]
    base: str | None
    """The model that it says it was made for."""
    weights: Path

    @property
    def ranks(self) -> tuple[int, ...]:
        """Those that occur."""
        return tuple(sorted({len(a) for a, _ in self.matrices.values()}))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """All matrices, as a file of NumPy's names them."""
        return {
            f"{module}.{end}": matrix
            for module, pair in self.matrices.items()
            for end, matrix in zip("ab", pair, strict=True)
        }


def read_lora(folder: Path) -> ServedLora:
    """The LoRA in `folder`.

    Raises:
        ExportError: it is damaged, or none.
        Refused: it has something that cannot be served beside a base, or used at all.
    """
    lora = Lora(folder)
    for field, why in lora.config.merged_only.items():
        raise Refused(f"the adapter has {field}: {why}; nsedge-export merge can merge it")
    for part in lora.parts:
        if not part.is_plain:
            raise Refused(
                f"the adapter changes {part.target} itself, beside no product; nsedge-export merge"
                " can merge it"
            )
    return ServedLora(
        matrices={part.module: _pair(lora, part) for part in lora.parts},
        base=lora.config.base,
        weights=lora.weights,
    )


def _pair(lora: Lora, part: Part) -> Pair:
    a, b = (lora.tensors(part)[role].numpy() for role in (Role.FIRST, Role.SECOND))
    scaled = np.ascontiguousarray(b.T * np.float32(part.scale))
    if not (np.isfinite(a).all() and np.isfinite(scaled).all()):
        raise ExportError(f"{lora.weights}: the matrices of {part.module} are not finite")
    return a, scaled
