"""What is heard of a session's sound, as OpenAI's events tell it: an item each time that somebody
spoke, or that the client committed; pure."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nsedge.api import Activity, Committed, Event, Failed, Segment
from nsedge.web.doors.openai.errors import NAMES, type_of
from nsedge.web.errors import Refusal

Told = dict[str, Any]
_TRANSCRIPTION = "conversation.item.input_audio_transcription"


@dataclass(eq=False)
class _Item:
    """What was said between two commits. final: segments; stable: what of the next will not
    change; told: characters of both that were."""

    begin_s: float
    id: str = field(default_factory=lambda: f"item_{secrets.token_hex(12)}")
    final: str = ""
    stable: str = ""
    told: int = 0
    is_committed: bool = False

    @property
    def text(self) -> str:
        """What will not change, without the space before it."""
        return (self.final + self.stable).lstrip()


class Items:
    """Turns events to what is told. One for a session; several requests may follow each other."""

    def __init__(self, *, beta: bool = False) -> None:
        """beta: items are told of as OpenAI's beta did."""
        self.beta = beta
        self.turns = True
        """Whether ends of speech are found; else only the client's commits count."""
        self.offset_s = 0.0
        """How much sound requests before this one have heard."""
        self._open: _Item | None = None
        self._previous: str | None = None
        self._asked: deque[_Item | None] = deque()
        """Commits of the client that are not done; with the item that was told of."""
        self._ends = False
        """The next commit is that of an end of speech."""

    def heard(self, event: Event) -> list[Told]:
        """What is told of an event."""
        return list(self._heard(event))

    def commit(self, now_s: float) -> list[Told]:
        """The client commits all that came, `now_s` seconds of its sound."""
        if self.turns:
            self._asked.append(None)
            return []
        item = self._open or _Item(begin_s=now_s)
        self._open = None
        self._asked.append(item)
        return list(self._commit(item))

    def clear(self) -> None:
        """What is not committed is forgotten."""
        self._open = None

    def _heard(self, event: Event) -> Iterator[Told]:
        match event:
            case Activity(speaking=True, at_s=at_s) if self.turns:
                self._open = _Item(begin_s=at_s)
                yield self._of_speech("started", "audio_start_ms", at_s)
            case Activity(speaking=False, at_s=at_s) if self.turns and self._open is not None:
                self._ends = True
                yield self._of_speech("stopped", "audio_end_ms", at_s)
                yield from self._commit(self._open)
            case Segment():
                yield from self._said(event)
            case Committed(at_s=at_s):
                yield from self._done(at_s)
            case Failed():
                yield from self._failed(event)

    def _of_speech(self, what: str, when: str, at_s: float) -> Told:
        item = self._open or _Item(begin_s=at_s)
        return {
            "type": f"input_audio_buffer.speech_{what}",
            when: round(1000 * (self.offset_s + at_s)),
            "item_id": item.id,
        }

    def _commit(self, item: _Item) -> Iterator[Told]:
        if item.is_committed:
            return
        item.is_committed = True
        before, self._previous = self._previous, item.id
        yield {
            "type": "input_audio_buffer.committed",
            "previous_item_id": before,
            "item_id": item.id,
        }
        shown = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        names = ("created",) if self.beta else ("added", "done")
        for name in names:
            yield {
                "type": f"conversation.item.{name}",
                "previous_item_id": before,
                "item": shown,
            }

    def _said(self, segment: Segment) -> Iterator[Told]:
        waiting = next((one for one in self._asked if one is not None), None)
        item = waiting or self._open
        if item is None:
            item = self._open = _Item(begin_s=segment.start_s)
        if segment.final:
            item.final, item.stable = item.final + segment.text, ""
        else:
            item.stable = segment.text[: segment.stable]
        if item.is_committed or self.turns:
            yield from self._tell(item)

    def _tell(self, item: _Item) -> Iterator[Told]:
        if len(item.text) > item.told:
            delta, item.told = item.text[item.told :], len(item.text)
            yield {
                "type": f"{_TRANSCRIPTION}.delta",
                "item_id": item.id,
                "content_index": 0,
                "delta": delta,
            }

    def _done(self, at_s: float) -> Iterator[Told]:
        """All that was said until then is told."""
        ends, self._ends = self._ends, False
        item: _Item | None
        if ends:
            item, self._open = self._open, None
        elif self._asked:
            item = self._asked.popleft()
            if item is None:  # the client ended what goes on, or what nobody said
                item, self._open = self._open or _Item(begin_s=at_s), None
        else:
            item, self._open = self._open, None
        if item is None:
            return
        yield from self._commit(item)
        yield from self._tell(item)
        yield {
            "type": f"{_TRANSCRIPTION}.completed",
            "item_id": item.id,
            "content_index": 0,
            "transcript": item.text,
            "usage": {"type": "duration", "seconds": round(max(0.0, at_s - item.begin_s), 2)},
        }

    def _failed(self, event: Failed) -> Iterator[Told]:
        error = error_of(Refusal.of(event))
        items = [self._open, *self._asked]
        self._open, self._ends = None, False
        self._asked.clear()
        for item in items:
            if item is not None and item.is_committed:
                yield {
                    "type": f"{_TRANSCRIPTION}.failed",
                    "item_id": item.id,
                    "content_index": 0,
                    "error": error,
                }
        yield {"type": "error", "error": {**error, "event_id": None}}


def error_of(refusal: Refusal) -> Told:
    """The error that tells of a refusal."""
    return {
        "type": type_of(refusal.status),
        "code": NAMES.get(refusal.code, refusal.code),
        "message": refusal.message,
        "param": refusal.param,
    }
