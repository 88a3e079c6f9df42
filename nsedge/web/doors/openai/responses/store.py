"""Responses that may be asked for again, or gone on with: in memory, for a time, and so many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from nsedge.api import Message
from nsedge.web.doors.openai.responses.shapes import ResponseObject

MAX_KEPT = 32_000_000
"""Characters of all conversations together, and bytes of what they show."""


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
    def size(self) -> int:
        """About how long the conversation is, with its media as they came and as they are."""
        said = sum(len(message.text) + len(message.reasoning or "") for message in self.messages)
        return said + sum(
            len(media.data) * 7 // 3 for message in self.messages for media in message.media
        )


class Store:
    """The longest kept leave first. clock: monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, kept: Kept, *, most: int, for_s: float) -> None:
        """Keep a response, of `most`; let go what is older than `for_s`, or too much."""
        self._let_go(for_s)
        if most == 0:
            return
        self._kept[str(kept.response["id"])] = kept
        self._size += kept.size
        while len(self._kept) > most or (self._size > MAX_KEPT and len(self._kept) > 1):
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
        self._size -= self._kept.pop(label).size


STORE = web.AppKey("responses", Store)
