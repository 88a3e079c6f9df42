"""All that came of a request, once it has ended."""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass

from nsedge.api.events import Delta, Event, Failed, Finished, FinishReason, Result, Usage
from nsedge.api.found import Fillings, Labels, Scores
from nsedge.api.imagine import Picture
from nsedge.api.labels import Filling, Label
from nsedge.errors import NsedgeError, Unavailable


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What a request gave, in order."""

    results: tuple[Result, ...]
    usage: Usage

    @property
    def text(self) -> str:
        """What was written; of several choices, the first."""
        deltas = (event for event in self.results if isinstance(event, Delta))
        return "".join(event.text for event in deltas if event.choice == 0)

    @property
    def labels(self) -> tuple[tuple[Label, ...], ...]:
        """Of each input."""
        return tuple(
            one for event in self.results if isinstance(event, Labels) for one in event.labels
        )

    @property
    def masks(self) -> tuple[tuple[tuple[Filling, ...], ...], ...]:
        """Of each input, of each mask in it."""
        return tuple(
            one for event in self.results if isinstance(event, Fillings) for one in event.masks
        )

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Those that were made, in the order that they were done in."""
        return tuple(event for event in self.results if isinstance(event, Picture))

    @property
    def scores(self) -> tuple[float, ...]:
        """Of each document."""
        return scores_of(self.results)


def scores_of(results: tuple[Result, ...]) -> tuple[float, ...]:
    """The scores of documents, in their order."""
    found: list[float] = []
    for event in results:
        if isinstance(event, Scores):
            numbers = array("f", event.data)
            if sys.byteorder == "big":
                numbers.byteswap()
            found += numbers
    return tuple(found)


class Awaiting:
    """Takes the events of a request, which has to end well; a kind keeps what it needs of them."""

    def __init__(self) -> None:
        self.usage: Usage | None = None

    def saw(self, event: Event) -> None:
        """Take the next event.

        Raises:
            NsedgeError: the request failed.
            Unavailable: it was cancelled.
        """
        if isinstance(event, Failed):
            raise event.error()
        if isinstance(event, Finished):
            if event.reason is FinishReason.CANCELLED:
                raise Unavailable("the request was cancelled before it ended")
            self.usage = event.usage
        else:
            self.take(event)

    def take(self, event: Event) -> None:
        """Take an event that is no end."""

    def ended(self) -> Usage:
        """The usage that the end told.

        Raises:
            NsedgeError: the last event has not come.
        """
        if self.usage is None:
            raise NsedgeError("the answer has no end")
        return self.usage


class Collecting(Awaiting):
    """Keeps all results of a request."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[Result] = []

    def take(self, event: Event) -> None:
        """Keep a result."""
        if isinstance(event, Result):
            self.results.append(event)

    def collected(self) -> Collected:
        """All of it.

        Raises:
            NsedgeError: the last event has not come.
        """
        usage = self.ended()
        return Collected(results=tuple(self.results), usage=usage)
