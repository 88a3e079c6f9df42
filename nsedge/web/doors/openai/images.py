"""`POST /v1/images/generations`: OpenAI's shape of requests for pictures, and of the answer."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import replace
from typing import Annotated

from aiohttp import web

from nsedge.api import Imagine, Picture, Request
from nsedge.api.imagine import MAX_GUIDANCE, MAX_PICTURES, MAX_STEPS
from nsedge.errors import EmptyPrompt, InvalidParameter
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING, Answering
from nsedge.web.bodies import Integer, ModelName, gives, json_answer, read_json, takes
from nsedge.web.choices import Choice
from nsedge.web.doors.openai.shapes import ImageObject, ImagesAnswer
from nsedge.web.errors import Refusal, Refused
from nsedge.web.hints import between, hint, one_of
from nsedge.web.other_fields import OtherFields
from nsedge.web.request_fields import SchedulingBody, check_length, scheduling

AUTO = "auto"
BASE64 = "b64_json"
SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)
NAMES = {"width": "size", "height": "size", "count": "n", "guidance": "guidance_scale"}
"""What our fields are called here."""
_OTHERS = OtherFields(
    own={
        "background": (AUTO, "opaque"),
        "moderation": (AUTO, "low"),
        "output_compression": (100,),
        "output_format": ("png",),
        "partial_images": (0,),
        "quality": (AUTO, "standard"),
        "stream": (False,),
        "style": (),
    }
)


class ImagesBody(SchedulingBody, kw_only=True):
    """`POST /v1/images/generations`. What follows `response_format` is not OpenAI's."""

    prompt: Annotated[str, hint(minLength=1)]
    model: ModelName | None = None
    """Without it, the first that makes pictures."""
    n: Annotated[Integer, between((1, MAX_PICTURES))] | None = None
    size: Annotated[str, hint(pattern=f"^({AUTO}|{SIZE.pattern})$")] | None = None
    """WIDTHxHEIGHT, or `auto`, which is the model's own."""
    response_format: Annotated[str, one_of((BASE64,))] | None = None
    negative_prompt: str | None = None
    seed: Integer | None = None
    steps: Annotated[Integer, between((1, MAX_STEPS))] | None = None
    guidance_scale: Annotated[float, between((0, MAX_GUIDANCE))] | None = None
    guidance_rescale: Annotated[float, between((0, 1))] | None = None
    scheduler: Annotated[str, hint(minLength=1)] | None = None


@needs(Scope.INFER)
@takes(ImagesBody, _OTHERS)
@gives(ImagesAnswer)
async def generations(http: web.Request) -> web.Response:
    """`POST /v1/images/generations`."""
    answering = http.app[ANSWERING]
    body = await read_json(http, ImagesBody, _OTHERS)
    task = imagine_of(body, answering)
    with answering.label(http) as label:
        model = body.model or (await answering.model(None, task=Imagine.name)).name
        request = Request(request_id=label, model=model, task=task, **scheduling(body))
        try:
            request.check()
            (choice,) = await answering.whole(http, [request])
        except InvalidParameter as error:
            raise Refused(_reworded(Refusal.of(error))) from error
        except Refused as error:
            raise Refused(_reworded(error.refusal)) from error
    return json_answer(images_answer(choice))


def imagine_of(body: ImagesBody, answering: Answering) -> Imagine:
    """What a body asks for.

    Raises:
        InvalidParameter, EmptyPrompt, MessageTooLarge: naming the field and the limit.
    """
    if not body.prompt:
        raise EmptyPrompt("prompt is empty", param="prompt")
    check_length(len(body.prompt) + len(body.negative_prompt or ""), answering.limits, "prompt")
    if body.response_format not in (None, BASE64):
        raise InvalidParameter(
            f"response_format is {BASE64} here: no picture is kept that a url could name",
            param="response_format",
        )
    width, height = size_of(body.size)
    return Imagine(
        prompt=body.prompt,
        negative_prompt=body.negative_prompt or "",
        width=width,
        height=height,
        steps=body.steps,
        guidance=body.guidance_scale,
        guidance_rescale=body.guidance_rescale or 0.0,
        scheduler=body.scheduler,
        seed=None if body.seed is None else body.seed % 2**64,
        count=1 if body.n is None else body.n,
    )


def size_of(size: str | None) -> tuple[int, int] | tuple[None, None]:
    """Width and height of `size`; None where it leaves them to the model.

    Raises:
        InvalidParameter: it is no size.
    """
    if size in (None, AUTO):
        return None, None
    found = SIZE.fullmatch(size or "")
    if found is None:
        raise InvalidParameter(
            f"size is WIDTHxHEIGHT, such as 512x512, or {AUTO}, not {size!a}", param="size"
        )
    return int(found[1]), int(found[2])


def _reworded(refusal: Refusal) -> Refusal:
    """`refusal`, where the fields are called as OpenAI's clients gave them."""
    return replace(refusal, param=NAMES.get(refusal.param or "", refusal.param))


def images_answer(choice: Choice) -> ImagesAnswer:
    """OpenAI's answer: the pictures in their order."""
    pictures = sorted(
        (one for one in choice.results if isinstance(one, Picture)), key=lambda one: one.index
    )
    first = pictures[0].record
    return {
        "created": int(time.time()),
        "data": [_image(one) for one in pictures],
        "output_format": "png",
        "size": f"{first.width}x{first.height}",
    }


def _image(picture: Picture) -> ImageObject:
    return {
        "b64_json": base64.b64encode(picture.data).decode("ascii"),
        "seed": picture.record.seed,
    }


ROUTES = (web.post("/v1/images/generations", generations),)
