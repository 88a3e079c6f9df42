"""The bodies of the Jina door, and what they ask for."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from nsedge.api import Activation, Aggregation, Classify, Fill, Media, Request
from nsedge.api.inputs import MAX_INPUTS
from nsedge.api.labels import MAX_LABELS, MAX_TOP_K, Text
from nsedge.errors import EmptyPrompt, InvalidParameter
from nsedge.web.bodies import Integer, ModelName
from nsedge.web.hints import GIVEN, NULL, Filled, Picture, Rules, between, hint, wants
from nsedge.web.inline_media import picture_of
from nsedge.web.limits import WebLimits
from nsedge.web.other_fields import OtherFields
from nsedge.web.request_fields import SchedulingBody, check_length, scheduling
from nsedge.web.reranking import RankingBody

RANK_OTHERS = OtherFields(own={"max_chunks_per_doc": (), "max_tokens_per_doc": ()})
CLASSIFY_OTHERS = OtherFields(own={"classifier_id": ("",)})
FILL_OTHERS = OtherFields()


class RerankBody(RankingBody, kw_only=True):
    """`POST /v1/rerank`, `POST /v2/rerank`."""

    model: ModelName


class InputObject(msgspec.Struct):
    """A text as an object, with a second one where the model reads pairs; or a picture, as a data
    URL or base64."""

    rules: ClassVar[Rules] = (
        {
            "oneOf": [
                {
                    "required": ["text"],
                    "properties": {"text": {"type": "string", "minLength": 1}, "image": NULL},
                },
                {
                    "required": ["image"],
                    "properties": {"image": {"type": "string"}, "text": NULL, "text_pair": NULL},
                },
            ]
        },
    )
    text: str | None = None
    text_pair: str | None = None
    image: Picture | None = None


Several = hint(minItems=1, maxItems=MAX_INPUTS)


class ClassifyBody(SchedulingBody, kw_only=True):
    """`POST /v1/classify`."""

    model: ModelName
    rules: ClassVar[Rules] = (wants("prompt", GIVEN, labels={"type": "array", "minItems": 1}),)
    input: Filled | Annotated[list[Filled | InputObject], Several]
    labels: Annotated[tuple[Filled, ...], hint(maxItems=MAX_LABELS, uniqueItems=True)] = ()
    """The labels there are, for models that compare texts and pictures."""
    prompt: Annotated[str, hint(pattern=r"\{\}")] | None = None
    """What such a label is compared as, with {} in its place; Jina has no such field."""
    top_k: Annotated[Integer, between((1, MAX_TOP_K))] | None = None
    activation: Activation | bool | None = None
    """As vLLM has it: false gives logits."""
    use_activation: bool | None = None
    aggregation: Aggregation | None = None
    truncate: bool | None = None


class FillBody(SchedulingBody, kw_only=True):
    """`POST /v1/fill`."""

    model: ModelName
    input: Filled | Annotated[list[Filled], Several]
    top_k: Annotated[Integer, between((1, MAX_TOP_K))] | None = None


def classify_request(body: ClassifyBody, request_id: str, limits: WebLimits) -> Request:
    """The request that a body asks for.

    Raises:
        InvalidParameter, EmptyPrompt, MessageTooLarge: naming the field and the limit.
    """
    given = [body.input] if isinstance(body.input, str) else body.input
    inputs = tuple(_input(one, f"input[{number}]") for number, one in enumerate(given))
    _check(inputs, limits)
    check_length(sum(map(len, body.labels)), limits, "labels")
    task = Classify(
        inputs=inputs,
        top_k=body.top_k,
        activation=_activation(body),
        aggregation=body.aggregation,
        truncate=bool(body.truncate),
        labels=body.labels,
        prompt=body.prompt,
    )
    request = Request(request_id=request_id, model=body.model, task=task, **scheduling(body))
    request.check()
    return request


def fill_request(body: FillBody, request_id: str, limits: WebLimits) -> Request:
    """The request that a body asks for; raises as `classify_request`."""
    inputs = (body.input,) if isinstance(body.input, str) else tuple(body.input)
    _check(inputs, limits)
    task = Fill(inputs=inputs) if body.top_k is None else Fill(inputs=inputs, top_k=body.top_k)
    request = Request(request_id=request_id, model=body.model, task=task, **scheduling(body))
    request.check()
    return request


def _input(given: str | InputObject, where: str) -> Text | Media:
    if isinstance(given, str):
        return given
    if (given.text is None) == (given.image is None) or (given.image and given.text_pair):
        raise InvalidParameter(f"{where} wants either a text or an image", param="input")
    if given.image is not None:
        return picture_of(given.image, f"{where}.image", param="input")
    text = given.text or ""
    return text if given.text_pair is None else (text, given.text_pair)


def _check(inputs: tuple[Text | Media, ...], limits: WebLimits) -> None:
    if not inputs:
        raise EmptyPrompt("input is empty", param="input")
    if len(inputs) > MAX_INPUTS:
        raise InvalidParameter(
            f"{len(inputs)} inputs are beyond the limit of {MAX_INPUTS}", param="input"
        )
    chars = 0
    for number, one in enumerate(inputs):
        if isinstance(one, Media):
            continue
        parts = (one,) if isinstance(one, str) else one
        if not any(parts):
            raise EmptyPrompt(f"input[{number}] is empty", param="input")
        chars += sum(map(len, parts))
    check_length(chars, limits, "input")


def _activation(body: ClassifyBody) -> Activation | None:
    said = body.activation if body.use_activation is None else body.use_activation
    if isinstance(said, Activation):
        return said
    return Activation.NONE if said is False else None
