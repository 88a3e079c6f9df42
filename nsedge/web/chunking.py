"""How the text of a stream is cut into pieces; pure.

By `token`: as the model writes it. `adaptive`: all that came while the reader took what came before
is one piece, so that a slow reader gets few, and a quick one every token. A number: at least so
many characters a piece, but for the last. Nothing waits for anything but text.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta

from nsedge.api import Delta, Event, Failed
from nsedge.web.answer_stream import Batch

MAX_CHARS = 1_000_000
Chunk = Literal["token", "adaptive"] | Annotated[int, Meta(ge=1, le=MAX_CHARS)]
"""How a stream is cut."""


class Chunker:
    """Cuts one stream. Texts of a choice stay in order, and before what ends it."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._held: dict[int, list[Delta]] = {}

    def feed(self, batch: Batch) -> Batch:
        """The events of `batch`, with the texts in the pieces that are due."""
        if self._chunk == "token":
            return batch
        due: list[tuple[int, Event]] = []
        for index, event in batch:
            if isinstance(event, Delta):
                due += self._hold(index, event)
                continue
            # A failure ends the whole stream.
            for which in list(self._held) if isinstance(event, Failed) else [index]:
                due += self._release(which)
            due.append((index, event))
        if self._chunk == "adaptive":
            for which in list(self._held):
                due += self._release(which)
        return due

    def _hold(self, index: int, delta: Delta) -> Batch:
        held = self._held.setdefault(index, [])
        held.append(delta)
        if isinstance(self._chunk, int) and sum(len(one.text) for one in held) >= self._chunk:
            return self._release(index)
        return ()

    def _release(self, index: int) -> Batch:
        held = self._held.pop(index, [])
        return [(index, joined(held))] if held else ()


def joined(deltas: Sequence[Delta]) -> Delta:
    """One piece of several that follow each other, with all that they tell of their tokens."""
    first = deltas[0]
    told: dict[str, Any] = {
        field.name: tuple(itertools.chain(*(getattr(one, field.name) for one in deltas)))
        for field in dataclasses.fields(first)
        if isinstance(getattr(first, field.name), tuple)
    }
    return dataclasses.replace(first, text="".join(one.text for one in deltas), **told)
