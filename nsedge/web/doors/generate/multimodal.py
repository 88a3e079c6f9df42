"""The generate door's routes about one picture or recording, which comes in a form."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, TypedDict

from aiohttp import web

from nsedge.api import (
    Caption,
    Chat,
    Classify,
    Generate,
    Labels,
    Language,
    Media,
    MediaPart,
    ModelInfo,
    Request,
    Segment,
    Transcribe,
)
from nsedge.api.labels import MAX_TOP_K
from nsedge.api.languages import language_code
from nsedge.api.tasks import ladder
from nsedge.api.transcripts import joined_text
from nsedge.errors import InvalidParameter
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import Integer, ModelName, gives, json_answer, read_form, takes
from nsedge.web.constraint_fields import constraint
from nsedge.web.doors.generate.forms import AUDIO, IMAGE, OTHERS, media_of, prompt_named
from nsedge.web.errors import Refused
from nsedge.web.hints import Filled, SpokenLanguage, between, hint
from nsedge.web.media_read import MediaTold, media_told
from nsedge.web.multipart import FORM
from nsedge.web.request_fields import SchedulingBody, check_length, scheduling, spoken
from nsedge.web.sampling_fields import SamplingFields, sampling
from nsedge.web.sound import fields_named, seconds_of, sound_of
from nsedge.web.speech_fields import SpeechSearchBody, speech_search

_COMPARES = "dual-encoder"
"""The kind of models that compare pictures with texts."""
QUESTION = "Describe this image in one sentence."
"""What is asked where nothing else is."""


class CaptionBody(SamplingFields, kw_only=True):
    """`POST /api/multimodal/vision/caption`, beside its image."""

    text: str | None = None
    """What a vision language model is asked; models that caption take none."""
    prompt: str | None = None
    """What the caption goes on from, for models that caption."""
    model: ModelName | None = None
    """Without it the default vision model, or else the first that captions, or answers a text."""


class FitBody(SchedulingBody, kw_only=True):
    """`POST /api/multimodal/vision/classify`, beside its image."""

    labels: Annotated[tuple[Filled, ...], hint(minItems=1, uniqueItems=True)]
    """As many as a form has room for."""
    model: ModelName | None = None
    """Without it, the first that compares pictures with texts."""
    prompt: Annotated[str, hint(pattern=r"\{\}")] | None = None
    """The text that a label is compared as, with {} in its place."""
    top_k: Annotated[Integer, between((1, MAX_TOP_K))] | None = None


class TranscribeBody(SpeechSearchBody, kw_only=True):
    """`POST /api/multimodal/audio/transcribe`, beside its audio."""

    model: ModelName | None = None
    """Without it, the default speech model."""
    language: SpokenLanguage | None = None
    """By its code, or its English name; without it, it is detected."""
    translate: bool | None = None
    """Write it in English."""
    prompt: str | None = None
    temperature: float | None = None


class CaptionAnswer(MediaTold):
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


@needs(Scope.INFER)
@takes(CaptionBody, OTHERS, types=(FORM,), files=(IMAGE,))
@gives(CaptionAnswer)
async def caption(http: web.Request) -> web.StreamResponse:
    """`POST /api/multimodal/vision/caption`: what is to be seen in an image."""
    answering, began_s = http.app[ANSWERING], time.monotonic()
    body, parts = await read_form(http, CaptionBody, OTHERS, media=(IMAGE,))
    if len(parts) != 1:
        raise InvalidParameter(f"one image is wanted, not {len(parts)}", param="image")
    check_length(len(body.text or ""), answering.limits, "text")
    with answering.label(http) as label:
        settings = answering.settings
        captions = settings.caption_model if body.text is None else ""
        model = await answering.model(
            body.model or captions or settings.vision_model or None,
            task=Caption.name if body.text is None else Chat.name,
        )
        task = _seen(body, model, media_of(parts[0]))
        wanted = Request(request_id=label, model=model.name, task=task, **scheduling(body))
        with fields_named("image"), prompt_named():
            wanted.check()
            (choice,) = await answering.whole(http, [wanted])
    took_s = time.monotonic() - began_s
    answer: CaptionAnswer = {
        "caption": choice.text.strip(),
        "model": model.name,
        "time_s": round(took_s, 6),
        **media_told(choice.results),
    }
    return json_answer(answer)


def _seen(body: CaptionBody, model: ModelInfo, image: Media) -> Caption | Chat | Generate:
    """What is asked of a model that captions, or of one that is asked in words.

    Raises:
        InvalidParameter: a field that says nothing to this model, or out of range.
    """
    sampled, held = sampling(body), constraint(body)
    if Caption.name in model.tasks and body.text is None:
        return Caption(media=image, prompt=body.prompt or "", sampling=sampled, constraint=held)
    if Caption.name in model.tasks and not {Chat.name, Generate.name} & set(model.tasks):
        raise InvalidParameter(
            f"{model.name} captions, and takes no text; prompt is what its caption goes on from",
            param="text",
        )
    if body.prompt is not None:
        raise InvalidParameter(
            f"{model.name} does not caption: ask it in text, without a prompt", param="prompt"
        )
    return spoken(
        QUESTION if body.text is None else body.text,
        model,
        sampled,
        constraint=held,
        media=[MediaPart(media=image, place="image")],
    )


@needs(Scope.INFER)
@takes(FitBody, OTHERS, types=(FORM,), files=(IMAGE,), lists=("labels",))
@gives(Fits)
async def classify(http: web.Request) -> web.StreamResponse:
    """`POST /api/multimodal/vision/classify`: which of some labels fits an image."""
    answering, began_s = http.app[ANSWERING], time.monotonic()
    body, parts = await read_form(http, FitBody, OTHERS, media=(IMAGE,), lists=("labels",))
    if len(parts) != 1:
        raise InvalidParameter(f"one image is wanted, not {len(parts)}", param="image")
    check_length(sum(map(len, body.labels)), answering.limits, "labels")
    task = Classify(
        inputs=(media_of(parts[0]),), labels=body.labels, prompt=body.prompt, top_k=body.top_k
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
@takes(TranscribeBody, OTHERS, types=(FORM,), files=(AUDIO,))
@gives(Transcript)
async def transcribe(http: web.Request) -> web.StreamResponse:
    """`POST /api/multimodal/audio/transcribe`: what is said in a recording."""
    answering, began_s = http.app[ANSWERING], time.monotonic()
    body, parts = await read_form(http, TranscribeBody, OTHERS, media=(AUDIO,))
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
            **speech_search(body),
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
