"""The generate door: a text in, its answer out, in one piece or as server-sent events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, TypedDict

import msgspec
from aiohttp import web

from nsedge.api import (
    Delta,
    Finished,
    Logprobs,
    MediaPart,
    MediaRead,
    Request,
    TokenLogprob,
)
from nsedge.api.sampling import MAX_LOGPROBS
from nsedge.errors import EmptyPrompt, InvalidParameter
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answer_stream import AnswerStream, json_text
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import Integer, ModelName, gives, json_answer, read_form, read_json, takes
from nsedge.web.constraint_fields import constraint
from nsedge.web.door import JSON, Door
from nsedge.web.doors.generate import multimodal
from nsedge.web.doors.generate.forms import (
    MEDIA,
    OTHERS,
    VIDEO,
    FrameChoice,
    InlineMedia,
    inline,
    prompt_named,
    shown,
)
from nsedge.web.errors import PlainErrorBody, Refusal, plain_error
from nsedge.web.framing import SSE
from nsedge.web.hints import GIVEN, Rules, between, hint, not_all
from nsedge.web.logprobs import TokenObject, token_object, told
from nsedge.web.media_read import MediaTold, media_object, media_told
from nsedge.web.multipart import FORM
from nsedge.web.request_fields import Fps, Frames, check_length, scheduling, spoken
from nsedge.web.sampling_fields import SamplingFields, sampling
from nsedge.web.usage import Clipped, Usage, clipped, usage

_encode = msgspec.json.Encoder().encode
_BEFORE, _AFTER = SSE.record(b'{"text":\x00,"done":false}').split(b"\x00")


class GenerateBody(SamplingFields, kw_only=True):
    """`POST /api/generate` and `/api/generate/stream`."""

    rules: ClassVar[Rules] = tuple(
        not_all(raw={"const": True}, **{field: GIVEN}) for field in MEDIA
    )
    text: Annotated[str, hint(minLength=1)]
    model: ModelName | None = None
    logprobs: Annotated[Integer, between((0, MAX_LOGPROBS))] | None = None
    """Tell the log-probability of each token, and those of so many of the likeliest."""
    raw: bool | None = None
    """Continue the text as it stands, without the chat template."""
    stream: bool | None = None
    """Accepted; the route decides."""
    image: InlineMedia = None
    audio: InlineMedia = None
    video: InlineMedia = None
    """Beside a text in JSON: base64, or data URLs; they stand before it."""
    fps: Fps | None = None
    """Of films, how many frames a second are looked at."""
    frames: Frames | None = None
    """Of each film, how many at most; without `fps`, spread over all of it."""


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


class GenerateAnswer(End, Likely, MediaTold):
    """The answer in one piece."""

    text: str
    model: str


class GenerateStream(AnswerStream):
    """Pieces of text, and an object that says how they ended; always one choice."""

    def __init__(self) -> None:
        super().__init__(1)

    def error(self, refusal: Refusal) -> bytes:
        return SSE.record(plain_error(refusal))

    def _piece(self, index: int, text: str) -> bytes:
        return _BEFORE + json_text(text) + _AFTER

    def _media(self, index: int, event: MediaRead) -> bytes:
        return SSE.record(json_text({"text": "", "media": [media_object(event)], "done": False}))

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
@takes(GenerateBody, OTHERS, types=(JSON, FORM), files=MEDIA)
@gives(GenerateAnswer)
async def generate(http: web.Request) -> web.StreamResponse:
    """`POST /api/generate`: the answer in one piece."""
    answering = http.app[ANSWERING]
    with answering.label(http) as label:
        wanted, _ = await _request(http, label)
        with prompt_named():
            (choice,) = await answering.whole(http, [wanted])
    likely: Likely = {"logprobs": logprobs_of(tokens)} if (tokens := told(choice.results)) else {}
    answer: GenerateAnswer = {
        "text": choice.text,
        **likely,
        "model": wanted.model,
        **media_told(choice.results),
        **end_of(choice.finished),
    }
    return json_answer(answer)


@needs(Scope.INFER)
@takes(GenerateBody, OTHERS, types=(JSON, FORM), files=MEDIA)
@gives(stream=GenerateStream)
async def generate_stream(http: web.Request) -> web.StreamResponse:
    """`POST /api/generate/stream`: the answer as a stream, whatever `stream` says."""
    answering = http.app[ANSWERING]
    with answering.label(http) as label:
        wanted, body = await _request(http, label)
        with prompt_named():
            return await answering.stream(http, [wanted], GenerateStream(), chunk=body.chunk)


async def _request(http: web.Request, label: str) -> tuple[Request, GenerateBody]:
    """What the body asks for."""
    answering = http.app[ANSWERING]
    body, media = await _body(http)
    if not body.text:
        raise EmptyPrompt("text is empty", param="text")
    check_length(len(body.text), answering.limits, "text")
    if media and body.raw:
        raise InvalidParameter("a raw text takes no images, no audio and no video", param="raw")
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


async def _body(http: web.Request) -> tuple[GenerateBody, tuple[MediaPart, ...]]:
    """The body, and the media that came with it, in order."""
    if http.content_type != FORM:
        body = await read_json(http, GenerateBody, OTHERS)
        media = inline(image=body.image, audio=body.audio, video=body.video)
    else:
        body, parts = await read_form(http, GenerateBody, OTHERS, media=MEDIA)
        media = shown(parts)
    choice = FrameChoice(body.fps, body.frames)
    if choice != FrameChoice() and not any(part.media.kind == VIDEO for part in media):
        raise InvalidParameter("fps and frames are of films, and there is none", param="video")
    return body, tuple(map(choice.of, media))


DOOR = Door(
    name="generate",
    prefixes=("/api/generate", "/api/multimodal"),
    routes=(
        web.post("/api/generate", generate),
        web.post("/api/generate/stream", generate_stream),
        web.post("/api/multimodal/vision/caption", multimodal.caption),
        web.post("/api/multimodal/vision/classify", multimodal.classify),
        web.post("/api/multimodal/audio/transcribe", multimodal.transcribe),
    ),
    error_body=plain_error,
    error_kind=PlainErrorBody,
    body_types=(JSON, FORM),
)
