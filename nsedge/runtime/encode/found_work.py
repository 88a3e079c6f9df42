"""Requests that are answered input by input with what was found there: labels, or tokens for
masks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from nsedge.api import Filling, Fillings, Label, Labels, Request
from nsedge.api.found import MAX_ENTRIES
from nsedge.runtime.encode.work import EncodeWork

F = TypeVar("F")
E = TypeVar("E", Labels, Fillings)


class FoundWork(EncodeWork, Generic[F, E]):
    """A request whose inputs have a number of findings each."""

    def __init__(
        self,
        *,
        request: Request,
        inputs: Sequence[Sized],
        find: Callable[[int, NDArray[Any]], tuple[F, ...]],
        submitted_s: float,
    ) -> None:
        """find: what of an input's logits is told."""
        super().__init__(request=request, inputs=inputs, submitted_s=submitted_s)
        self._find = find
        self._found: list[tuple[F, ...]] = [() for _ in inputs]

    @abstractmethod
    def size(self, found: tuple[F, ...]) -> int:
        """How many entries an event has of it."""

    @abstractmethod
    def event(self, first: int, found: tuple[tuple[F, ...], ...]) -> E:
        """The event that tells of inputs from `first` on."""

    def keep(self, index: int, output: NDArray[Any]) -> None:
        """Keep what is found in an input's logits."""
        self._found[index] = self._find(index, output)

    def chunks(self, begin: int, end: int, *, done: bool) -> Iterator[tuple[int, E]]:
        """As many inputs at once as an event holds."""
        first, entries = begin, 0
        for at in range(begin, end):
            more = self.size(self._found[at])
            if at > first and entries + more > MAX_ENTRIES:
                yield at, self.event(first, tuple(self._found[first:at]))
                first, entries = at, 0
            entries += more
        if done and first < end:
            yield end, self.event(first, tuple(self._found[first:end]))


class LabelWork(FoundWork[Label, Labels]):
    """A request for labels."""

    def size(self, found: tuple[Label, ...]) -> int:
        """Labels."""
        return len(found)

    def event(self, first: int, found: tuple[tuple[Label, ...], ...]) -> Labels:
        """Labels of inputs from `first` on."""
        return Labels(request_id=self.request.request_id, first=first, labels=found)


class FillWork(FoundWork[tuple[Filling, ...], Fillings]):
    """A request for tokens that fit masks."""

    def size(self, found: tuple[tuple[Filling, ...], ...]) -> int:
        """Tokens."""
        return sum(map(len, found))

    def event(self, first: int, found: tuple[tuple[tuple[Filling, ...], ...], ...]) -> Fillings:
        """Tokens for the masks of inputs from `first` on."""
        return Fillings(request_id=self.request.request_id, first=first, masks=found)
