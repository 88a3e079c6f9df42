"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`: OpenAI's forms, and what they ask
for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from aiohttp import web

from nsedge.api import Media, Request, Transcribe
from nsedge.api.languages import language_code
from nsedge.api.tasks import ladder
from nsedge.errors import InvalidParameter
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import Integer, ModelName, gives, read_form, takes
from nsedge.web.doors.openai.shapes import TranscriptObject
from nsedge.web.doors.openai.transcripts import (
    FORMATS,
    GRANULARITIES,
    JSON,
    SEGMENT,
    SRT,
    STREAMED,
    TYPES,
    VERBOSE,
    VTT,
    WORD,
    TranscriptStream,
    body_of,
)
from nsedge.web.hints import Rules, SpokenLanguage, between, not_all, one_of, wants
from nsedge.web.multipart import FORM
from nsedge.web.other_fields import OtherFields
from nsedge.web.request_fields import scheduling
from nsedge.web.sound import fields_named, sound_of
from nsedge.web.speech_fields import SpeechSearchBody, speech_search

FILE = "file"
LISTS = ("timestamp_granularities",)
_OTHERS = OtherFields(
    own={
        "include": ([],),
        "known_speaker_names": ([],),
        "known_speaker_references": ([],),
    }
)


class TranslationBody(SpeechSearchBody, kw_only=True):
    """`POST /v1/audio/translations`, beside its `file`."""

    model: ModelName
    prompt: str | None = None
    response_format: Annotated[str, one_of(FORMATS)] | None = None
    temperature: Annotated[float, between((0.0, 1.0))] | None = None
    """The first that is tried; 0.2 more each time that the result is doubtful."""
    seed: Integer | None = None
    """Not OpenAI's, as `vad`."""


class TranscriptionBody(TranslationBody, kw_only=True):
    """`POST /v1/audio/transcriptions`, beside its `file`."""

    rules: ClassVar[Rules] = (
        wants(
            "timestamp_granularities",
            {"type": "array", "minItems": 1},
            response_format={"const": VERBOSE},
        ),
        not_all(stream={"const": True}, response_format={"enum": [VERBOSE, SRT, VTT]}),
    )
    language: SpokenLanguage | None = None
    """By its code, or its English name; without it, it is detected."""
    stream: bool | None = None
    timestamp_granularities: list[Annotated[str, one_of(GRANULARITIES)]] | None = None
    """Of `segment` and `word`, with verbose_json."""
    chunking_strategy: Annotated[str, one_of(("auto",))] | None = None
    """`auto` is as `vad`."""


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What a form asks for beside its recording, checked."""

    form: str
    granularities: tuple[str, ...]
    stream: bool
    task: dict[str, Any]
    """Fields of `Transcribe`."""


@needs(Scope.INFER)
@takes(TranscriptionBody, _OTHERS, types=(FORM,), files=(FILE,), lists=LISTS)
@gives(TranscriptObject, stream=TranscriptStream, pages=("text/plain", "text/vtt"))
async def transcriptions(http: web.Request) -> web.StreamResponse:
    """`POST /v1/audio/transcriptions`."""
    return await _write(http, TranscriptionBody)


@needs(Scope.INFER)
@takes(TranslationBody, _OTHERS, types=(FORM,), files=(FILE,))
@gives(TranscriptObject, pages=("text/plain", "text/vtt"))
async def translations(http: web.Request) -> web.StreamResponse:
    """`POST /v1/audio/translations`: what is said, in English."""
    return await _write(http, TranslationBody)


async def _write(http: web.Request, kind: type[TranslationBody]) -> web.StreamResponse:
    answering = http.app[ANSWERING]
    body, parts = await read_form(http, kind, _OTHERS, media=(FILE,), lists=LISTS)
    wanted, sound = _wanted(body), sound_of(parts, FILE)
    with answering.label(http) as label, fields_named(FILE):
        request = _request(body, wanted, sound, label)
        if wanted.stream:
            return await answering.stream(http, [request], TranscriptStream())
        (choice,) = await answering.whole(http, [request])
    written = body_of(
        choice,
        wanted.form,
        translate=kind is TranslationBody,
        granularities=wanted.granularities,
    )
    content_type = TYPES.get(wanted.form, "text/plain")
    return web.Response(body=written, content_type=content_type, charset=_charset(content_type))


def _wanted(body: TranslationBody) -> _Wanted:
    """Raises InvalidParameter for what contradicts itself, or cannot be had."""
    form = body.response_format or JSON
    if form not in FORMATS:
        raise InvalidParameter(
            f"response_format must be {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, not {form!r}",
            param="response_format",
        )
    task: dict[str, Any] = {"translate": True, **speech_search(body)}
    granularities: tuple[str, ...] = (SEGMENT,)
    stream = False
    if isinstance(body, TranscriptionBody):
        granularities, stream = _granularities(body, form), bool(body.stream)
        task |= {"translate": False, "word_timestamps": WORD in granularities}
        if body.language:
            task["language"] = language_code(body.language)
        if body.chunking_strategy not in (None, "auto"):
            raise InvalidParameter(
                "chunking_strategy is auto or absent here", param="chunking_strategy"
            )
        if body.chunking_strategy == "auto" and body.vad is None:
            task["vad"] = True
    if stream and form not in STREAMED:
        raise InvalidParameter(
            f"a stream has no {form}: response_format is json or text", param="response_format"
        )
    return _Wanted(form=form, granularities=granularities, stream=stream, task=task)


def _granularities(body: TranscriptionBody, form: str) -> tuple[str, ...]:
    given = body.timestamp_granularities
    if not given:
        return (SEGMENT,)
    for one in given:
        if one not in GRANULARITIES:
            raise InvalidParameter(
                f"timestamp_granularities are segment and word, not {one!r}",
                param="timestamp_granularities",
            )
    if form != VERBOSE:
        raise InvalidParameter(
            "timestamp_granularities need response_format verbose_json",
            param="timestamp_granularities",
        )
    return tuple(given)


def _request(body: TranslationBody, wanted: _Wanted, sound: Media, label: str) -> Request:
    task = Transcribe(
        media=sound,
        prompt=body.prompt or "",
        temperatures=ladder(body.temperature or 0.0),
        seed=None if body.seed is None else body.seed % 2**64,
        **wanted.task,
    )
    request = Request(request_id=label, model=body.model, task=task, **scheduling(body))
    request.check()
    return request


def _charset(content_type: str) -> str | None:
    return None if content_type == TYPES[JSON] else "utf-8"


ROUTES = (
    web.post("/v1/audio/transcriptions", transcriptions),
    web.post("/v1/audio/translations", translations),
)
