"""What a realtime session is set to: OpenAI's shapes, of today and of its beta, and what they ask
of the core; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from nsedge.api import Feed, Listen, SoundForm
from nsedge.api.bounds import within
from nsedge.api.languages import language_code
from nsedge.errors import InvalidParameter

PCM_RATE = 24_000
G711_RATE = 8_000
IDLE_S = 900.0
"""A session that says nothing for so long loses its request; the next sound begins another."""
_FORMS = {
    "audio/pcm": (SoundForm.S16LE, PCM_RATE),
    "audio/pcmu": (SoundForm.ULAW, G711_RATE),
    "audio/pcma": (SoundForm.ALAW, G711_RATE),
}
_BETA_FORMS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_TO_BETA = {name: beta for beta, name in _BETA_FORMS.items()}
SERVER_VAD = "server_vad"


class Format(Struct, forbid_unknown_fields=True):
    """How the sound lies."""

    type: str = "audio/pcm"
    rate: int | None = None


class Transcription(Struct, forbid_unknown_fields=True):
    """Which model writes, and what it is told."""

    model: str | UnsetType | None = UNSET
    language: str | UnsetType | None = UNSET
    prompt: str | UnsetType | None = UNSET


class TurnDetection(Struct, forbid_unknown_fields=True):
    """How ends of speech are found; `create_response` and `interrupt_response` are of sessions that
    answer."""

    type: str = SERVER_VAD
    threshold: float | None = None
    prefix_padding_ms: int | None = None
    silence_duration_ms: int | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None


class NoiseReduction(Struct, forbid_unknown_fields=True):
    """Not done here: the session that is told back has none."""

    type: str | None = None


class AudioInput(Struct, forbid_unknown_fields=True):
    """The sound of a session."""

    format: Format | UnsetType | None = UNSET
    noise_reduction: NoiseReduction | UnsetType | None = UNSET
    transcription: Transcription | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class Audio(Struct, forbid_unknown_fields=True):
    """The sound of a session, which has no output."""

    input: AudioInput | UnsetType = UNSET


class SessionBody(Struct, forbid_unknown_fields=True):
    """`session` of `session.update`."""

    type: str = "transcription"
    audio: Audio | UnsetType = UNSET
    include: list[str] | UnsetType | None = UNSET


class BetaBody(Struct, forbid_unknown_fields=True):
    """`session` of `transcription_session.update`."""

    input_audio_format: str | UnsetType = UNSET
    input_audio_transcription: Transcription | UnsetType | None = UNSET
    input_audio_noise_reduction: NoiseReduction | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET
    include: list[str] | UnsetType | None = UNSET
    modalities: list[str] | UnsetType = UNSET


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a session is set to. model: as it was named, None is the default. turns: ends of speech
    are found here, by the next three; else the client commits."""

    model: str | None = None
    language: str | None = None
    prompt: str = ""
    format: str = "audio/pcm"
    turns: bool = True
    threshold: float = 0.5
    padding_ms: int = 300
    silence_ms: int = 500

    @property
    def bytes_a_second(self) -> int:
        """Of sound."""
        form, rate = _FORMS[self.format]
        return form.sample_bytes * rate

    def listen(self, feed: Feed) -> Listen:
        """What is asked of the core."""
        form, rate = _FORMS[self.format]
        return Listen(
            feed=feed,
            form=form,
            rate=rate,
            language=None if self.language is None else language_code(self.language),
            prompt=self.prompt,
            partials=self.turns,
            vad=None if self.turns else False,
            threshold=self.threshold,
            padding_s=self.padding_ms / 1000.0,
            silence_s=self.silence_ms / 1000.0,
            idle_s=IDLE_S,
        )

    def told(self, session: str) -> dict[str, Any]:
        """The session as its client is told."""
        _, rate = _FORMS[self.format]
        form = {"type": self.format, **({"rate": rate} if self.format == "audio/pcm" else {})}
        return {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": session,
            "audio": {
                "input": {
                    "format": form,
                    "noise_reduction": None,
                    "transcription": self._transcription(),
                    "turn_detection": self._turn_detection(),
                }
            },
            "include": None,
        }

    def told_beta(self, session: str) -> dict[str, Any]:
        """The same in the shape of the beta."""
        return {
            "object": "realtime.transcription_session",
            "id": session,
            "input_audio_format": _TO_BETA[self.format],
            "input_audio_noise_reduction": None,
            "input_audio_transcription": self._transcription(),
            "turn_detection": self._turn_detection(),
            "include": None,
        }

    def _transcription(self) -> dict[str, Any]:
        return {"model": self.model, "language": self.language, "prompt": self.prompt}

    def _turn_detection(self) -> dict[str, Any] | None:
        if not self.turns:
            return None
        return {
            "type": SERVER_VAD,
            "threshold": self.threshold,
            "prefix_padding_ms": self.padding_ms,
            "silence_duration_ms": self.silence_ms,
        }


def updated(settings: Settings, session: Any) -> Settings:
    """`settings` after a `session.update`.

    Raises:
        InvalidParameter: naming the field that is wrong, or cannot be had here.
    """
    body = _converted(session, SessionBody)
    if body.type != "transcription":
        raise InvalidParameter(
            f"sessions here transcribe: type is transcription, not {body.type[:64]!a}",
            param="session.type",
        )
    _refuse_include(body.include)
    if isinstance(body.audio, UnsetType) or isinstance(body.audio.input, UnsetType):
        return settings
    given = body.audio.input
    if not isinstance(given.format, UnsetType):
        settings = _formatted(settings, given.format or Format())
    return _listening(settings, given.transcription, given.turn_detection)


def updated_beta(settings: Settings, session: Any) -> Settings:
    """`settings` after a `transcription_session.update`; raises as `updated`."""
    body = _converted(session, BetaBody)
    _refuse_include(body.include)
    if not isinstance(body.input_audio_format, UnsetType):
        name = _BETA_FORMS.get(body.input_audio_format, body.input_audio_format)
        settings = _formatted(settings, Format(type=name), known=tuple(_BETA_FORMS))
    return _listening(settings, body.input_audio_transcription, body.turn_detection)


def _converted(session: Any, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(session, kind)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"the session does not fit: {error}", param="session") from error


def _refuse_include(include: list[str] | UnsetType | None) -> None:
    if include:
        raise InvalidParameter(
            "log-probabilities of speech are not told here: leave include out",
            param="session.include",
        )


def _formatted(
    settings: Settings, given: Format, known: tuple[str, ...] = tuple(_FORMS)
) -> Settings:
    if given.type not in _FORMS:
        raise InvalidParameter(
            f"the format is one of {', '.join(known)}, not {given.type[:64]!a}",
            param="session.audio.input.format",
        )
    if given.rate not in (None, _FORMS[given.type][1]):
        raise InvalidParameter(
            f"{given.type} has {_FORMS[given.type][1]} samples a second, not {given.rate}",
            param="session.audio.input.format.rate",
        )
    return replace(settings, format=given.type)


def _listening(
    settings: Settings,
    written: Transcription | UnsetType | None,
    turns: TurnDetection | UnsetType | None,
) -> Settings:
    if written is None:
        settings = replace(settings, model=None, language=None, prompt="")
    elif not isinstance(written, UnsetType):
        names = ("model", "language", "prompt")
        given = {name: getattr(written, name) for name in names}
        said = {name: one for name, one in given.items() if not isinstance(one, UnsetType)}
        if "prompt" in said:
            said["prompt"] = said["prompt"] or ""
        settings = replace(settings, **said)
    if turns is None:
        settings = replace(settings, turns=False)
    elif not isinstance(turns, UnsetType):
        settings = _turning(settings, turns)
    settings.listen(Feed()).check()
    return settings


def _turning(settings: Settings, turns: TurnDetection) -> Settings:
    if turns.type != SERVER_VAD:
        raise InvalidParameter(
            f"turn_detection is {SERVER_VAD} or null here, not {turns.type[:64]!a}",
            param="session.audio.input.turn_detection.type",
        )
    within("prefix_padding_ms", turns.prefix_padding_ms, 0, 2000)
    within("silence_duration_ms", turns.silence_duration_ms, 100, 10_000)
    fresh = Settings()
    return replace(
        settings,
        turns=True,
        threshold=fresh.threshold if turns.threshold is None else turns.threshold,
        padding_ms=fresh.padding_ms if turns.prefix_padding_ms is None else turns.prefix_padding_ms,
        silence_ms=(
            fresh.silence_ms if turns.silence_duration_ms is None else turns.silence_duration_ms
        ),
    )
