"""The chat service's answers, streams and errors, to the letter; pure."""

from __future__ import annotations

import msgspec

from nsedge.api import Finished, MediaRead
from nsedge.web.answer_stream import AnswerStream, json_text
from nsedge.web.choices import Choice
from nsedge.web.doors.chat.shapes import ChatAnswer, End, ErrorBody
from nsedge.web.errors import Refusal
from nsedge.web.framing import NDJSON
from nsedge.web.media_read import media_object, media_told
from nsedge.web.usage import clipped

UNAVAILABLE = 503
_WORDS = {"not_ready": "No model loaded", "not_loaded": "No model loaded"}
_encode = msgspec.json.Encoder().encode
_BEFORE, _AFTER = NDJSON.record(b'{"type":"fragment","content":\x00}').split(b"\x00")


class FragmentStream(AnswerStream):
    """Fragments of text as lines of JSON, and a line that says how they ended; one choice."""

    framing = NDJSON

    def __init__(self, model: str) -> None:
        super().__init__(1)
        self._model = model

    def error(self, refusal: Refusal) -> bytes:
        return NDJSON.record(_encode({"type": "error", "detail": detail(refusal)}))

    def _media(self, index: int, event: MediaRead) -> bytes:
        piece = {"type": "fragment", "content": "", "media": [media_object(event)]}
        return NDJSON.record(json_text(piece))

    def _piece(self, index: int, text: str) -> bytes:
        return _BEFORE + json_text(text) + _AFTER

    def _closing(self, index: int, event: Finished) -> bytes:
        return NDJSON.record(_encode({"type": "done", "model": self._model, **_end(event)}))


def whole_answer(model: str, choice: Choice) -> ChatAnswer:
    """The answer in one piece."""
    media = media_told(choice.results)
    return {"model": model, "content": choice.text, **media, **_end(choice.finished)}


def error_body(refusal: Refusal) -> bytes:
    """The body that tells of `refusal`."""
    return _encode(ErrorBody(detail=detail(refusal)))


def detail(refusal: Refusal) -> str:
    """`refusal` in this service's words."""
    message = _WORDS.get(refusal.code, refusal.message)
    return f"Chat service unavailable: {message}" if refusal.status == UNAVAILABLE else message


def _end(finished: Finished) -> End:
    return {
        "predicted_tokens": finished.usage.completion_tokens,
        "stop_reason": finished.reason.value,
        **clipped(finished),
    }
