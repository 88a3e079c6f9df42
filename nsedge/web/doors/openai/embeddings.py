"""`POST /v1/embeddings`: OpenAI's shape of requests for vectors, and of the answer."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar

import msgspec
from aiohttp import web

from nsedge.api import Embed, Input, Media, Request
from nsedge.api.inputs import MAX_INPUTS
from nsedge.api.tasks import MAX_DIMENSIONS
from nsedge.errors import EmptyPrompt, InvalidParameter
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import Integer, ModelName, TokenId, gives, json_answer, read_json, takes
from nsedge.web.choices import Choice
from nsedge.web.doors.openai.errors import reworded
from nsedge.web.doors.openai.shapes import EmbeddingPage
from nsedge.web.errors import Refused
from nsedge.web.hints import NULL, Picture, Rules, between, hint, one_of
from nsedge.web.inline_media import picture_of
from nsedge.web.limits import WebLimits
from nsedge.web.other_fields import OtherFields
from nsedge.web.request_fields import SchedulingBody, check_length, scheduling
from nsedge.web.vectors import floats, rows

FORMATS = ("float", "base64")
_OTHERS = OtherFields()
Text = Annotated[str, hint(minLength=1)]


class InputObject(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An input that says what it is, as Jina's clients send it: a text or a picture."""

    rules: ClassVar[Rules] = (
        {
            "oneOf": [
                {
                    "required": ["text"],
                    "properties": {"text": {"type": "string", "minLength": 1}, "image": NULL},
                },
                {"required": ["image"], "properties": {"image": {"type": "string"}, "text": NULL}},
            ]
        },
    )
    text: str | None = None
    image: Picture | None = None
    """A data URL, or base64."""


Inputs = Annotated[
    list[Text | TokenId | Annotated[list[TokenId], hint(minItems=1)] | InputObject],
    hint(
        minItems=1,
        maxItems=MAX_INPUTS,
        anyOf=[{"items": {"type": "integer"}}, {"items": {"not": {"type": "integer"}}}],
    ),
]
"""The tokens of one text, or several inputs."""


class EmbeddingsBody(SchedulingBody, kw_only=True):
    """`POST /v1/embeddings`."""

    model: ModelName
    input: Text | InputObject | Inputs
    """Objects are of Jina's shape; OpenAI has texts and tokens alone."""
    encoding_format: Annotated[str, one_of(FORMATS)] | None = None
    dimensions: Annotated[Integer, between((1, MAX_DIMENSIONS))] | None = None
    truncate: bool | None = None
    """Cut off what is longer than the model reads; OpenAI has no such field."""


@needs(Scope.INFER)
@takes(EmbeddingsBody, _OTHERS)
@gives(EmbeddingPage)
async def embeddings(http: web.Request) -> web.Response:
    """`POST /v1/embeddings`."""
    answering = http.app[ANSWERING]
    body = await read_json(http, EmbeddingsBody, _OTHERS)
    encoding = body.encoding_format or FORMATS[0]
    if encoding not in FORMATS:
        raise InvalidParameter(
            f"encoding_format must be float or base64, not {encoding!r}", param="encoding_format"
        )
    with answering.label(http) as label:
        try:
            request = embed_request(body, label, answering.limits)
            (choice,) = await answering.whole(http, [request])
        except Refused as error:
            raise Refused(reworded(error.refusal, "input")) from error
    return json_answer(embeddings_answer(choice, body.model, base64_encoded=encoding == "base64"))


def embed_request(body: EmbeddingsBody, request_id: str, limits: WebLimits) -> Request:
    """The request that a body asks for.

    Raises:
        InvalidParameter, EmptyPrompt, MessageTooLarge: naming the field and the limit.
    """
    inputs = tuple(_inputs(body.input))
    if not inputs:
        raise EmptyPrompt("input is empty", param="input")
    if len(inputs) > MAX_INPUTS:
        raise InvalidParameter(
            f"{len(inputs)} inputs are beyond the limit of {MAX_INPUTS}", param="input"
        )
    for number, one in enumerate(inputs):
        if not isinstance(one, Media) and not one:
            raise EmptyPrompt(f"input[{number}] is empty", param="input")
    check_length(sum(len(one) for one in inputs if not isinstance(one, Media)), limits, "input")
    request = Request(
        request_id=request_id,
        model=body.model,
        task=Embed(inputs=inputs, dimensions=body.dimensions, truncate=bool(body.truncate)),
        **scheduling(body),
    )
    request.check()
    return request


def _inputs(given: str | InputObject | list[Any]) -> Iterator[Input]:
    """A text, texts, token ids of one text, or those of several; pictures among them."""
    if isinstance(given, str):
        yield given
        return
    if isinstance(given, InputObject):
        yield _described(given, "input")
        return
    if given and all(isinstance(one, int) for one in given):
        yield tuple(given)
        return
    for number, one in enumerate(given):
        if isinstance(one, int):
            raise InvalidParameter(
                f"input[{number}] is a token among texts: tokens of one text stand in an array",
                param="input",
            )
        if isinstance(one, InputObject):
            yield _described(one, f"input[{number}]")
        else:
            yield one if isinstance(one, str) else tuple(one)


def _described(one: InputObject, where: str) -> str | Media:
    if (one.text is None) == (one.image is None):
        raise InvalidParameter(f"{where} wants either a text or an image", param="input")
    if one.image is not None:
        return picture_of(one.image, f"{where}.image", param="input")
    return one.text or ""


def embeddings_answer(choice: Choice, model: str, *, base64_encoded: bool) -> EmbeddingPage:
    """OpenAI's answer: a list of vectors in the order of the inputs, and what was read."""
    encode: Callable[[bytes], list[float] | str] = _base64 if base64_encoded else floats
    tokens = choice.finished.usage.prompt_tokens
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(data)}
            for index, data in enumerate(rows(choice.results))
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _base64(data: bytes) -> str:
    """float32, little-endian, as OpenAI's clients decode it."""
    return base64.b64encode(data).decode("ascii")
