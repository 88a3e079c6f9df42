"""The stream of one idea, to the letter; pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from nsedge.api import Finished
from nsedge.web.answer_stream import AnswerStream, json_text
from nsedge.web.doors.studio.shapes import ErrorBody, ErrorObject
from nsedge.web.errors import Refusal
from nsedge.web.framing import SSE

ALMOST = 0.99
"""The most progress that is told before the end."""
_encode = msgspec.json.Encoder().encode


class IdeaStream(AnswerStream):
    """A start, chunks of text and an end, each with the progress: tokens so far of those expected.

    ended_well: called before the end is told.
    """

    def __init__(
        self, idea_id: str, *, expected_tokens: int, ended_well: Callable[[Finished], None]
    ) -> None:
        super().__init__(1)
        self._id = idea_id
        self._expected_tokens = expected_tokens
        self._ended_well = ended_well
        self._after = b',"idea_id":' + _encode(idea_id) + b',"progress":'

    def error(self, refusal: Refusal) -> bytes:
        told = {"type": "error", "idea_id": self._id, "message": refusal.message}
        return SSE.record(_encode(told))

    def _opening(self, index: int) -> bytes:
        return self._told("start", 0.0)

    def _piece(self, index: int, text: str) -> bytes:
        progress = min(round(self.tokens[index] / self._expected_tokens, 4), ALMOST)
        head = b'{"type":"chunk","content":' + json_text(text)
        return SSE.record(head + self._after + _encode(progress) + b"}")

    def _closing(self, index: int, event: Finished) -> bytes:
        self._ended_well(event)
        return self._told("complete", 1.0)

    def _told(self, kind: str, progress: float) -> bytes:
        return SSE.record(_encode({"type": kind, "idea_id": self._id, "progress": progress}))


def error_body(refusal: Refusal) -> bytes:
    """The body that tells of `refusal`."""
    error = ErrorObject(code=refusal.code, message=refusal.message, param=refusal.param)
    return _encode(ErrorBody(detail=refusal.message, error=error))
