"""A request with pictures on its way through their encoder: once all of them are rows, it goes on
to what writes its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsedge.api import Event, Request, Result
from nsedge.errors import EngineFailure
from nsedge.runtime.encode.rows import Pieces
from nsedge.runtime.encode.work import EncodeWork

Floats = NDArray[np.float32]
GoOn = Callable[[Sequence[Floats], Iterable[tuple[str, Floats]]], None]
"""Takes the rows of each picture, and by name those that were made for this request."""


class SightWork(EncodeWork):
    """The pictures of one request that no rows are known of."""

    def __init__(
        self,
        *,
        request: Request,
        names: Sequence[str],
        known: Mapping[str, Floats],
        taken: Mapping[str, Pieces],
        go_on: GoOn,
        submitted_s: float,
    ) -> None:
        """names: of the request's media, in order; of each either the rows are `known`, or it was
        `taken`, in the pieces that an encoder takes. go_on: called once, with the rows of
        each, where nothing fails."""
        pieces = [piece for several in taken.values() for piece in several.pieces]
        super().__init__(request=request, inputs=pieces, submitted_s=submitted_s)
        self._names = tuple(names)
        self._new = dict(taken)
        self._found: list[Floats | None] = [None] * len(pieces)
        self._rows: dict[str, Floats] = dict(known)
        self._go_on = go_on
        self.went_on = False
        """Whether it is somebody else's now."""

    def keep(self, index: int, output: NDArray[Any]) -> None:
        """Keep the rows [rows, hidden] of a piece."""
        self._found[index] = np.array(output, np.float32)

    def chunks(self, begin: int, end: int, *, done: bool) -> Iterator[tuple[int, Result]]:
        """Nothing is told of pictures."""
        return iter(())

    @property
    def new_rows(self) -> Iterator[tuple[str, Floats]]:
        """By name, the rows that were made for this request."""
        return ((name, self._rows[name]) for name in self._new)

    def start(self, now_s: float) -> list[Event]:
        """Nothing: the request begins with its first token."""
        return []

    def take(self, index: int, output: NDArray[Any], now_s: float) -> list[Event]:
        """Keep the rows of a piece; after the last one the request goes on."""
        if self.ended:
            return []
        self.keep(index, output)
        self._there[index] = True
        return self.go_on() if self._there.all() else []

    def go_on(self) -> list[Event]:
        """Hand the request on, all of whose rows are there."""
        found = (rows for rows in self._found if rows is not None)
        try:
            for name, several in self._new.items():
                self._rows[name] = several.joined([next(found) for _ in several.pieces])
            self._go_on([self._rows[name] for name in self._names], self.new_rows)
        except ValueError as error:  # the encoder makes more or fewer rows than it says
            return self.fail(EngineFailure(f"the pictures do not fit their places: {error}"))
        self.ended = self.went_on = True
        return []
