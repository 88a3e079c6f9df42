"""Steps that change logits, each of the rows that need it and no others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from collections.abc import Sequence as Many

import numpy as np

from nsedge.runtime.decode.sampling.logits import Floats
from nsedge.runtime.decode.sampling.penalties import PENALTIES
from nsedge.runtime.decode.sampling.row import SamplerRow


class Edit(ABC):
    """One step."""

    @abstractmethod
    def needed(self, row: SamplerRow) -> bool:
        """Whether it would change anything of the row."""

    @abstractmethod
    def apply(self, logits: Floats, places: Many[int], rows: Many[SamplerRow]) -> None:
        """Change `logits[place]` [V] for each of the rows, all of which need it."""


class Mask(Edit):
    """Lets only the tokens of a row's mask come."""

    def needed(self, row: SamplerRow) -> bool:
        """Whether there is a mask."""
        return row.mask is not None

    def apply(self, logits: Floats, places: Many[int], rows: Many[SamplerRow]) -> None:
        """-inf for all other tokens; but what is no number stays so, since its row has failed."""
        for place, row in zip(places, rows, strict=True):
            if row.mask is not None:
                octets = row.mask.astype("<u4", copy=False).view(np.uint8)
                allowed = np.unpackbits(octets, count=logits.shape[1], bitorder="little")
                np.copyto(logits[place], -np.inf, where=(allowed == 0) & (logits[place] < np.inf))


class LogitBias(Edit):
    """Adds to the logits of some tokens."""

    def needed(self, row: SamplerRow) -> bool:
        """Whether there are any."""
        return row.bias_ids.size > 0

    def apply(self, logits: Floats, places: Many[int], rows: Many[SamplerRow]) -> None:
        """Token by token."""
        for place, row in zip(places, rows, strict=True):
            logits[place, row.bias_ids] += row.bias


class Penalties(Edit):
    """Applies every formula of `penalties` to the tokens that rows have seen, in one pass."""

    def needed(self, row: SamplerRow) -> bool:
        """Whether any formula changes something."""
        return row.seen is not None

    def apply(self, logits: Floats, places: Many[int], rows: Many[SamplerRow]) -> None:
        """In the order of `PENALTIES`."""
        seen = [row.seen for row in rows if row.seen is not None]
        sizes = [one.ids.size for one in seen]
        counts = np.concatenate([one.counts for one in seen])
        flat = logits.reshape(-1)
        starts = np.array(places, np.int64) * logits.shape[1]
        at = np.repeat(starts, np.array(sizes)) + np.concatenate([one.ids for one in seen])
        x = flat[at]
        for penalty in PENALTIES:
            values = [penalty.value(row.params) for row in rows]
            if any(value != penalty.neutral for value in values):
                x = penalty.apply(x, counts, np.repeat(np.array(values, np.float32), sizes))
        flat[at] = x


class EndBan(Edit):
    """Lets no end of sequence come where it must not yet."""

    def __init__(self, end_ids: Iterable[int]) -> None:
        self._end_ids = np.array(sorted(end_ids), np.int64)

    def needed(self, row: SamplerRow) -> bool:
        """Whether it must not."""
        return row.ban_end

    def apply(self, logits: Floats, places: Many[int], rows: Many[SamplerRow]) -> None:
        """-inf for every end of sequence that is a number."""
        at = np.array(places)[:, None], self._end_ids
        logits[at] = np.where(logits[at] < np.inf, -np.inf, logits[at])
