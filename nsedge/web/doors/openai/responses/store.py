"""Responses that may be asked for again, or gone on with: in memory, for a time, and so many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from nsedge.api import Message
from nsedge.web.doors.openai.responses.shapes import ResponseObject

MAX_KEPT_CHARS = 32_000_000
"""Of all conversations together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A response, and the conversation that it ends. caller: whose key may ask for it."""

    caller: str
    response: ResponseObject
    items: list[dict[str, Any]]
    """What it was asked with, as OpenAI lists it."""
    messages: tuple[Message, ...]
    """The conversation with the answer, without instructions."""
    since_s: float

    @property
    def chars(self) -> int:
        """About how long the conversation is."""
        return sum(len(message.text) + len(message.reasoning or "") for message in self.messages)


class Store:
    """The longest kept leave first. clock: monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._chars = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, kept: Kept, *, most: int, for_s: float) -> None:
        """Keep a response, of `most`; let go what is older than `for_s`, or too much."""
        self._let_go(for_s)
        if most == 0:
            return
        self._kept[str(kept.response["id"])] = kept
        self._chars += kept.chars
        while len(self._kept) > most or (self._chars > MAX_KEPT_CHARS and len(self._kept) > 1):
            self._drop(next(iter(self._kept)))

    def find(self, label: str, caller: str, *, for_s: float) -> Kept | None:
        """The response of that id, where it is there and the caller's."""
        self._let_go(for_s)
        kept = self._kept.get(label)
        return kept if kept is not None and kept.caller == caller else None

    def drop(self, label: str) -> None:
        """Let one go."""
        self._drop(label)

    def now_s(self) -> float:
        """The time that ages are counted by."""
        return self._clock()

    def _let_go(self, for_s: float) -> None:
        oldest_s = self._clock() - for_s
        for label in [one for one, kept in self._kept.items() if kept.since_s < oldest_s]:
            self._drop(label)

    def _drop(self, label: str) -> None:
        self._chars -= self._kept.pop(label).chars


STORE = web.AppKey("responses", Store)
