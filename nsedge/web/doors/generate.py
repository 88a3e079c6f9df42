"""The generate door: a text in, its answer out, in one piece or as server-sent events."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, TypedDict

import msgspec
from aiohttp import web

from nsedge.api import (
    Chat,
    Classify,
    Delta,
    Finished,
    Labels,
    Language,
    Logprobs,
    Media,
    Request,
    Segment,
    TokenLogprob,
    Transcribe,
)
from nsedge.api.labels import MAX_TOP_K
from nsedge.api.languages import language_code
from nsedge.api.sampling import MAX_LOGPROBS
from nsedge.api.tasks import ladder
from nsedge.api.transcripts import joined_text
from nsedge.errors import EmptyPrompt, InvalidParameter
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answer_stream import AnswerStream, json_text
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import Integer, ModelName, gives, json_answer, read_form, read_json, takes
from nsedge.web.constraint_fields import constraint
from nsedge.web.door import JSON, Door
from nsedge.web.errors import PlainErrorBody, Refusal, Refused, plain_error
from nsedge.web.framing import SSE
from nsedge.web.hints import Filled, between, hint
from nsedge.web.logprobs import TokenObject, token_object, told
from nsedge.web.multipart import FORM, FormPart
from nsedge.web.other_fields import OtherFields
from nsedge.web.request_fields import SchedulingBody, check_length, scheduling, spoken
from nsedge.web.sampling_fields import SamplingFields, sampling
from nsedge.web.sound import fields_named, seconds_of, sound_of
from nsedge.web.usage import Clipped, Usage, clipped, usage

_encode = msgspec.json.Encoder().encode
_BEFORE, _AFTER = SSE.record(b'{"text":\x00,"done":false}').split(b"\x00")


class GenerateBody(SamplingFields, kw_only=True):
    """`POST /api/generate` and `/api/generate/stream`."""

    text: Annotated[str, hint(minLength=1)]
    model: ModelName | None = None
    logprobs: Annotated[Integer, between((0, MAX_LOGPROBS))] | None = None
    """Tell the log-probability of each token, and those of so many of the likeliest."""
    raw: bool | None = None
    """Continue the text as it stands, without the chat template."""
    stream: bool | None = None
    """Accepted; the route decides."""


_MEDIA = ("image", "audio")
"""Fields of a form that are no text."""
_OTHERS = OtherFields(refuse_unknown=False)
"""Clients of this door send fields of their own."""
_COMPARES = "dual-encoder"
"""The kind of models that compare pictures with texts."""


class CaptionBody(SamplingFields, kw_only=True):
    """`POST /api/multimodal/vision/caption`, beside its image."""

    text: str = "Describe this image in one sentence."
    model: ModelName | None = None
    """Without it, the default vision model."""


class FitBody(SchedulingBody, kw_only=True):
    """`POST /api/multimodal/vision/classify`, beside its image."""

    labels: Annotated[tuple[Filled, ...], hint(minItems=1, uniqueItems=True)]
    """As many as a form has room for."""
    model: ModelName | None = None
    """Without it, the first that compares pictures with texts."""
    prompt: Annotated[str, hint(pattern=r"\{\}")] | None = None
    """The text that a label is compared as, with {} in its place."""
    top_k: Annotated[Integer, between((1, MAX_TOP_K))] | None = None


class TranscribeBody(SchedulingBody, kw_only=True):
    """`POST /api/multimodal/audio/transcribe`, beside its audio."""

    model: ModelName | None = None
    """Without it, the default speech model."""
    language: str | None = None
    """By its code, or its English name; without it, it is detected."""
    translate: bool | None = None
    """Write it in English."""
    prompt: str | None = None
    temperature: float | None = None
    vad: bool | None = None


class Candidate(TokenObject):
    """A token that could have been written."""

    id: int


class Token(Candidate):
    """A token, its rank (1 is the likeliest), and the likeliest in its place."""

    rank: int | None
    top: list[Candidate]


class TimingsObject(TypedDict):
    """Where the time went, in seconds."""

    queue_s: float
    prefill_s: float
    decode_s: float


class End(Clipped):
    """How an answer ended."""

    done: bool
    reason: str
    usage: Usage
    timings: TimingsObject


class Likely(TypedDict, total=False):
    """The tokens that were written, where they are told."""

    logprobs: list[Token]


class GenerateAnswer(End, Likely):
    """The answer in one piece."""

    text: str
    model: str


class Caption(TypedDict):
    """What is to be seen in an image. time_s: seconds that it took."""

    caption: str
    model: str
    time_s: float


class Fit(TypedDict):
    """How well a label fits, from 0 to 1."""

    label: str
    score: float


class Fits(Fit):
    """The label that fits an image best, and all of them. time_s: seconds that it took."""

    labels: list[Fit]
    model: str
    time_s: float


class Transcript(TypedDict):
    """What is said in a recording. time_s: seconds that it took."""

    text: str
    language: str | None
    duration_s: float
    model: str
    time_s: float


class GenerateStream(AnswerStream):
    """Pieces of text, and an object that says how they ended; always one choice."""

    def __init__(self) -> None:
        super().__init__(1)

    def error(self, refusal: Refusal) -> bytes:
        return SSE.record(plain_error(refusal))

    def _piece(self, index: int, text: str) -> bytes:
        return _BEFORE + json_text(text) + _AFTER

    def _likely(self, index: int, delta: Delta) -> bytes:
        piece = {"text": delta.text, "logprobs": logprobs_of(delta.logprobs), "done": False}
        return SSE.record(json_text(piece))

    def _closing(self, index: int, event: Finished) -> bytes:
        return SSE.record(_encode(end_of(event)))


def logprobs_of(tokens: Sequence[Logprobs]) -> list[Token]:
    """An object a token, with its rank (1 is the likeliest) and the likeliest in its place."""

    def object_of(token: Logprobs | TokenLogprob) -> Candidate:
        return {"id": token.id, **token_object(token)}

    return [
        {**object_of(token), "rank": token.rank, "top": [object_of(one) for one in token.top]}
        for token in tokens
    ]


def end_of(finished: Finished) -> End:
    """The last object of an answer. Times are in seconds."""
    return {
        "done": True,
        "reason": finished.reason.value,
        "usage": usage([finished], 1),
        "timings": {
            "queue_s": finished.timings.queue_s,
            "prefill_s": finished.timings.prefill_s,
            "decode_s": finished.timings.decode_s,
        },
        **clipped(finished),
    }


@needs(Scope.INFER)
@takes(GenerateBody, _OTHERS, types=(JSON, FORM), files=_MEDIA)
@gives(GenerateAnswer)
async def generate(http: web.Request) -> web.StreamResponse:
    """`POST /api/generate`: the answer in one piece."""
    answering = http.app[ANSWERING]
    with answering.label(http) as label:
        wanted, _ = await _request(http, label)
        with _fields_named(wanted):
            (choice,) = await answering.whole(http, [wanted])
    likely: Likely = {"logprobs": logprobs_of(tokens)} if (tokens := told(choice.results)) else {}
    answer: GenerateAnswer = {
        "text": choice.text,
        **likely,
        "model": wanted.model,
        **end_of(choice.finished),
    }
    return json_answer(answer)


@needs(Scope.INFER)
@takes(GenerateBody, _OTHERS, types=(JSON, FORM), files=_MEDIA)
@gives(stream=GenerateStream)
async def generate_stream(http: web.Request) -> web.StreamResponse:
    """`POST /api/generate/stream`: the answer as a stream, whatever `stream` says."""
    answering = http.app[ANSWERING]
    with answering.label(http) as label:
        wanted, body = await _request(http, label)
        with _fields_named(wanted):
            return await answering.stream(http, [wanted], GenerateStream(), chunk=body.chunk)


@needs(Scope.INFER)
@takes(CaptionBody, _OTHERS, types=(FORM,), files=_MEDIA[:1])
@gives(Caption)
async def caption(http: web.Request) -> web.StreamResponse:
    """`POST /api/multimodal/vision/caption`: what is to be seen in an image."""
    answering, began_s = http.app[ANSWERING], time.monotonic()
    body, parts = await read_form(http, CaptionBody, _OTHERS, media=_MEDIA[:1])
    if len(parts) != 1:
        raise InvalidParameter(f"one image is wanted, not {len(parts)}", param="image")
    with answering.label(http) as label:
        model = await answering.model(body.model or answering.settings.vision_model or None)
        sampled, held = sampling(body), constraint(body)
        task = spoken(body.text, model, sampled, constraint=held, media=[_media(parts[0])])
        wanted = Request(request_id=label, model=model.name, task=task, **scheduling(body))
        wanted.check()
        with _fields_named(wanted):
            (choice,) = await answering.whole(http, [wanted])
    took_s = time.monotonic() - began_s
    return json_answer(Caption(caption=choice.text, model=model.name, time_s=round(took_s, 6)))


@needs(Scope.INFER)
@takes(FitBody, _OTHERS, types=(FORM,), files=_MEDIA[:1], lists=("labels",))
@gives(Fits)
async def classify(http: web.Request) -> web.StreamResponse:
    """`POST /api/multimodal/vision/classify`: which of some labels fits an image."""
    answering, began_s = http.app[ANSWERING], time.monotonic()
    body, parts = await read_form(http, FitBody, _OTHERS, media=_MEDIA[:1], lists=("labels",))
    if len(parts) != 1:
        raise InvalidParameter(f"one image is wanted, not {len(parts)}", param="image")
    check_length(sum(map(len, body.labels)), answering.limits, "labels")
    task = Classify(
        inputs=(_media(parts[0]),), labels=body.labels, prompt=body.prompt, top_k=body.top_k
    )
    with answering.label(http) as label:
        model = await answering.model(body.model, task=Classify.name, kind=_COMPARES)
        wanted = Request(request_id=label, model=model.name, task=task, **scheduling(body))
        wanted.check()
        try:
            (choice,) = await answering.whole(http, [wanted])
        except Refused as error:
            if error.refusal.param != "inputs":
                raise
            raise Refused(replace(error.refusal, param="image")) from error
    (found,) = (event.labels[0] for event in choice.results if isinstance(event, Labels))
    fits = [Fit(label=one.label, score=one.score) for one in found]
    took_s = time.monotonic() - began_s
    return json_answer(Fits(**fits[0], labels=fits, model=model.name, time_s=round(took_s, 6)))


@needs(Scope.INFER)
@takes(TranscribeBody, _OTHERS, types=(FORM,), files=_MEDIA[1:])
@gives(Transcript)
async def transcribe(http: web.Request) -> web.StreamResponse:
    """`POST /api/multimodal/audio/transcribe`: what is said in a recording."""
    answering, began_s = http.app[ANSWERING], time.monotonic()
    body, parts = await read_form(http, TranscribeBody, _OTHERS, media=_MEDIA[1:])
    sound = sound_of(parts, "audio")
    with answering.label(http) as label:
        named = body.model or answering.settings.speech_model or None
        model = await answering.model(named, task=Transcribe.name)
        task = Transcribe(
            media=sound,
            language=language_code(body.language) if body.language else None,
            translate=bool(body.translate),
            prompt=body.prompt or "",
            temperatures=ladder(body.temperature or 0.0),
            vad=body.vad,
        )
        wanted = Request(request_id=label, model=model.name, task=task, **scheduling(body))
        with fields_named("audio"):
            wanted.check()
            (choice,) = await answering.whole(http, [wanted])
    took_s = time.monotonic() - began_s
    heard = [one.language for one in choice.results if isinstance(one, Language)]
    return json_answer(
        Transcript(
            text=joined_text(one for one in choice.results if isinstance(one, Segment)),
            language=heard[0] if heard else task.language,
            duration_s=seconds_of(choice.finished),
            model=model.name,
            time_s=round(took_s, 6),
        )
    )


async def _request(http: web.Request, label: str) -> tuple[Request, GenerateBody]:
    """What the body asks for."""
    answering = http.app[ANSWERING]
    body, media = await _body(http)
    if not body.text:
        raise EmptyPrompt("text is empty", param="text")
    check_length(len(body.text), answering.limits, "text")
    if media and body.raw:
        raise InvalidParameter("a raw text takes no images and no audio", param="raw")
    sampled, held = sampling(body, logprobs=body.logprobs), constraint(body)
    model = await answering.model(body.model)
    wanted = Request(
        request_id=label,
        model=model.name,
        task=spoken(body.text, model, sampled, constraint=held, raw=bool(body.raw), media=media),
        **scheduling(body),
    )
    wanted.check()
    return wanted, body


async def _body(http: web.Request) -> tuple[GenerateBody, tuple[Media, ...]]:
    """The body, and the media that were uploaded with it, in order."""
    if http.content_type != FORM:
        return await read_json(http, GenerateBody, _OTHERS), ()
    body, parts = await read_form(http, GenerateBody, _OTHERS, media=_MEDIA)
    return body, tuple(map(_media, parts))


@contextmanager
def _fields_named(wanted: Request) -> Iterator[None]:
    """Refusals of a prompt name the field that it came from here."""
    try:
        yield
    except Refused as error:
        refusal = error.refusal
        if refusal.param not in ("messages", "prompt"):
            raise
        seen = wanted.task.messages[0].media if isinstance(wanted.task, Chat) else ()
        field = seen[0].kind if seen else "text"
        message = refusal.message.replace("messages[0]", field)
        raise Refused(replace(refusal, message=message, param=field)) from error


def _media(part: FormPart) -> Media:
    """Raises InvalidParameter where the part is not of the kind that its name says, or empty."""
    media_type = part.media_type or ""
    if not media_type.startswith(f"{part.name}/"):
        raise InvalidParameter(
            f"{part.name} wants a Content-Type that begins with {part.name}/, not {media_type!r}",
            param=part.name,
        )
    media = Media(type=media_type, data=part.data)
    try:
        media.check()
    except InvalidParameter as error:
        raise InvalidParameter(f"{part.name}: {error.message}", param=part.name) from error
    return media


DOOR = Door(
    name="generate",
    prefixes=("/api/generate", "/api/multimodal"),
    routes=(
        web.post("/api/generate", generate),
        web.post("/api/generate/stream", generate_stream),
        web.post("/api/multimodal/vision/caption", caption),
        web.post("/api/multimodal/vision/classify", classify),
        web.post("/api/multimodal/audio/transcribe", transcribe),
    ),
    error_body=plain_error,
    error_kind=PlainErrorBody,
    body_types=(JSON, FORM),
)
