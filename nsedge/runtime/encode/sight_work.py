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
"""Takes the rows of each picture, and by name those that were not known before."""
Look = Callable[[str], Floats | None]
"""Finds the rows of a picture by its name, where they are known by now."""


def _nothing(name: str) -> Floats | None:
    return None


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
        look: Look = _nothing,
        parts: Mapping[str, str] | None = None,
    ) -> None:
        """names: of the request's media, in order; of each either the rows are `known`, or it was
        `taken`, in the pieces that an encoder takes. go_on: called once, with the rows of
        each, where nothing fails. look: tells what others had encoded meanwhile.
        parts: by name, where in its messages the request has each."""
        pieces = [piece for several in taken.values() for piece in several.pieces]
        super().__init__(request=request, inputs=pieces, submitted_s=submitted_s)
        self._names = tuple(names)
        self._new = dict(taken)
        self._pieces = [
            (name, number)
            for name, several in taken.items()
            for number in range(len(several.pieces))
        ]
        self._found: list[Floats | None] = [None] * len(pieces)
        self._rows: dict[str, Floats] = dict(known)
        self._go_on = go_on
        self._look = look
        self._parts = parts or {}
        self.went_on = False
        """Whether it is somebody else's now."""

    def keep(self, index: int, output: NDArray[Any]) -> None:
        """Keep the rows [rows, hidden] of a piece."""
        self._found[index] = np.array(output, np.float32)

    def called(self, index: int) -> str:
        """The part of a message that a piece is of."""
        name, _ = self._pieces[index]
        return self._parts.get(name, super().called(index))

    def chunks(self, begin: int, end: int, *, done: bool) -> Iterator[tuple[int, Result]]:
        """Nothing is told of pictures."""
        return iter(())

    def key(self, index: int) -> tuple[str, int]:
        """The name of its picture, and which of that one's pieces it is."""
        return self._pieces[index]

    def pass_over(self, index: int) -> list[Event] | None:
        """Pass over a piece of a picture whose rows another request has brought."""
        name, _ = self._pieces[index]
        if name not in self._rows:
            if (rows := self._look(name)) is None:
                return None
            self._rows[name] = rows
        return self._came(index)

    @property
    def new_rows(self) -> Iterator[tuple[str, Floats]]:
        """By name, the rows that were not known before."""
        return ((name, self._rows[name]) for name in self._new)

    def start(self, now_s: float) -> list[Event]:
        """Nothing: the request begins with its first token."""
        return []

    def take(self, index: int, output: NDArray[Any], now_s: float) -> list[Event]:
        """Keep the rows of a piece; after the last one the request goes on."""
        if self.ended:
            return []
        self.keep(index, output)
        return self._came(index)

    def _came(self, index: int) -> list[Event]:
        self._there[index] = True
        return self.go_on() if self._there.all() else []

    def go_on(self) -> list[Event]:
        """Hand the request on, all of whose rows are there."""
        made: dict[str, list[Floats]] = {}
        for (name, _), rows in zip(self._pieces, self._found, strict=True):
            if rows is not None:
                made.setdefault(name, []).append(rows)
        try:
            for name, several in self._new.items():
                if name not in self._rows:
                    self._rows[name] = several.joined(made[name])
            self._go_on([self._rows[name] for name in self._names], self.new_rows)
        except ValueError as error:  # the encoder makes more or fewer rows than it says
            return self.fail(EngineFailure(f"the pictures do not fit their places: {error}"))
        self.ended = self.went_on = True
        return []
