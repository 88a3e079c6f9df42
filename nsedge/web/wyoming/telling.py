"""What Wyoming's clients are told: which models hear here, and what was said. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nsedge.api import Event, Failed, Finished, FinishReason, Language, Listen, ModelInfo, Segment
from nsedge.api.listen import SoundForm
from nsedge.errors import InvalidParameter
from nsedge.version import VERSION
from nsedge.web.wyoming.wire import WyomingEvent

WIDTH = 2
"""Bytes of a sample."""
_ATTRIBUTION = {"name": "nsedge", "url": ""}
_WHISPER = {"name": "OpenAI", "url": "https://github.com/openai/whisper"}


def info(models: Iterable[ModelInfo]) -> WyomingEvent:
    """The models that hear sound while it comes."""
    program = {
        "name": "nsedge",
        "attribution": _ATTRIBUTION,
        "installed": True,
        "description": "speech to text",
        "version": VERSION,
        "models": [_model(one) for one in models if Listen.name in one.tasks],
        "supports_transcript_streaming": True,
        "requires_external_vad": True,
        "prefers_auto_gain_enabled": False,
        "prefers_noise_reduction_enabled": False,
    }
    names = ("tts", "handle", "intent", "wake", "mic", "snd")
    return WyomingEvent(type="info", data={"asr": [program], **{name: [] for name in names}})


def _model(model: ModelInfo) -> dict[str, Any]:
    return {
        "name": model.name,
        "attribution": _WHISPER,
        "installed": True,
        "description": model.name,
        "version": None,
        "languages": list(model.languages),
    }


def form_of(data: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Listen` that `audio-start`, or a chunk, tells of the sound.

    Raises:
        InvalidParameter: it is of a form that is not read here.
    """
    rate, width, channels = (data.get(name) for name in ("rate", "width", "channels"))
    if width != WIDTH:
        raise InvalidParameter(f"width must be {WIDTH} bytes, not {width!r}", param="width")
    if not isinstance(rate, int) or not isinstance(channels, int):
        raise InvalidParameter("rate and channels are whole numbers", param="rate")
    return {"form": SoundForm.S16LE, "rate": rate, "channels": channels}


class Telling:
    """Turns the events of one request to Wyoming's: chunks of what will not change any more, and
    the transcript with its end."""

    def __init__(self) -> None:
        self._final = ""
        self._told = 0
        self._began = False
        self._language: str | None = None

    def heard(self, event: Event) -> list[WyomingEvent]:
        """What is told of an event."""
        return list(self._heard(event))

    def _heard(self, event: Event) -> Iterator[WyomingEvent]:
        match event:
            case Language(language=language):
                self._language = language
            case Segment():
                if event.final:
                    self._final += event.text
                stable = "" if event.final else event.text[: event.stable]
                yield from self._tell((self._final + stable).lstrip())
            case Finished(reason=FinishReason.CANCELLED):
                return  # nobody waits for it
            case Finished():
                yield from self._begin()
                said = {"language": self._language} if self._language else {}
                yield WyomingEvent(type="transcript", data={"text": self._final.strip(), **said})
                yield WyomingEvent(type="transcript-stop")
            case Failed(code=code, message=message):
                yield WyomingEvent(type="error", data={"text": message, "code": code})

    def _begin(self) -> Iterator[WyomingEvent]:
        if not self._began:
            self._began = True
            said = {"language": self._language} if self._language else {}
            yield WyomingEvent(type="transcript-start", data=said)

    def _tell(self, text: str) -> Iterator[WyomingEvent]:
        if len(text) > self._told:
            yield from self._begin()
            yield WyomingEvent(type="transcript-chunk", data={"text": text[self._told :]})
            self._told = len(text)
