"""Steps that change logits, each of the rows that need it and no others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from collections.abc import Sequence as Many

import numpy as np

from nsedge.api import SamplerStep
from nsedge.runtime.decode.sampling.logits import Floats
from nsedge.runtime.decode.sampling.penalties import PENALTIES
from nsedge.runtime.decode.sampling.view import Row


class Edit(ABC):
    """One step."""

    @abstractmethod
    def needed(self, row: Row) -> bool:
        """Whether it would change anything of the row."""

    @abstractmethod
    def apply(self, logits: Floats, places: Many[int], rows: Many[Row]) -> None:
        """Change `logits[place]` [V] for each of the rows, all of which need it."""


class Mask(Edit):
    """Lets only the tokens of a row's mask come."""

    def needed(self, row: Row) -> bool:
        """Whether there is a mask."""
        return row.mask is not None

    def apply(self, logits: Floats, places: Many[int], rows: Many[Row]) -> None:
        """-inf for all other tokens; but what is no number stays so, since its row has failed."""
        for place, row in zip(places, rows, strict=True):
            if row.mask is not None:
                octets = row.mask.astype("<u4", copy=False).view(np.uint8)
                allowed = np.unpackbits(octets, count=logits.shape[1], bitorder="little")
                np.copyto(logits[place], -np.inf, where=(allowed == 0) & (logits[place] < np.inf))


class Ruled(Edit):
    """Holds a row to its model's own form of text."""

    def needed(self, row: Row) -> bool:
        """Whether there is one."""
        return row.rule is not None

    def apply(self, logits: Floats, places: Many[int], rows: Many[Row]) -> None:
        """Row by row."""
        for place, row in zip(places, rows, strict=True):
            if row.rule is not None:
                row.rule.apply(logits[place], row.drawn)


class LogitBias(Edit):
    """Adds to the logits of some tokens."""

    def needed(self, row: Row) -> bool:
        """Whether there are any."""
        return row.bias_ids.size > 0

    def apply(self, logits: Floats, places: Many[int], rows: Many[Row]) -> None:
        """Token by token."""
        for place, row in zip(places, rows, strict=True):
            logits[place, row.bias_ids] += row.bias


class Allowed(Edit):
    """Lets only some tokens come, the same all the time."""

    def needed(self, row: Row) -> bool:
        """Whether any may not."""
        return row.barred is not None

    def apply(self, logits: Floats, places: Many[int], rows: Many[Row]) -> None:
        """-inf for all others that are a number."""
        for place, row in zip(places, rows, strict=True):
            if row.barred is not None:
                np.copyto(logits[place], -np.inf, where=row.barred & (logits[place] < np.inf))


class Penalties(Edit):
    """Applies every formula of `penalties` to the tokens that rows have seen, in one pass."""

    def needed(self, row: Row) -> bool:
        """Whether any formula changes something, and not later."""
        return row.seen is not None and SamplerStep.PENALTIES in row.early

    def apply(self, logits: Floats, places: Many[int], rows: Many[Row]) -> None:
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


class Dry(Edit):
    """Makes tokens less likely that would go on with a repetition: see `history.Repeats`."""

    def needed(self, row: Row) -> bool:
        """Whether it is on, and not later."""
        return row.repeats is not None and SamplerStep.DRY in row.early

    def apply(self, logits: Floats, places: Many[int], rows: Many[Row]) -> None:
        """Subtract multiplier * base ** (length - allowed_length)."""
        for place, row in zip(places, rows, strict=True):
            if row.repeats is not None:
                ids, amounts = row.repeats.penalties()
                logits[place, ids] -= amounts


class Bans(Edit):
    """Lets no token come that those before it forbid."""

    def needed(self, row: Row) -> bool:
        """Whether any can."""
        return len(row.bans) > 0

    def apply(self, logits: Floats, places: Many[int], rows: Many[Row]) -> None:
        """-inf for each that is a number."""
        for place, row in zip(places, rows, strict=True):
            ids = [token for ban in row.bans for token in ban.ids()]
            if ids:
                logits[place, ids] = _banned(logits[place, ids])


LASTING: tuple[Edit, ...] = (Ruled(), LogitBias(), Allowed(), Penalties(), Dry(), Bans())
"""Steps that a row needs always or never, in order."""


class EndBan(Edit):
    """Lets no end of sequence come where it must not yet."""

    def __init__(self, end_ids: Iterable[int]) -> None:
        self._end_ids = np.array(sorted(end_ids), np.int64)

    def needed(self, row: Row) -> bool:
        """Whether it must not."""
        return row.ban_end

    def apply(self, logits: Floats, places: Many[int], rows: Many[Row]) -> None:
        """-inf for every end of sequence that is a number."""
        at = np.array(places)[:, None], self._end_ids
        logits[at] = _banned(logits[at])
        for place, row in zip(places, rows, strict=True):
            if row.end_ids.size:
                logits[place, row.end_ids] = _banned(logits[place, row.end_ids])


def _banned(logits: Floats) -> Floats:
    """What is no number stays so: its row has failed."""
    return np.where(logits < np.inf, np.float32(-np.inf), logits)
