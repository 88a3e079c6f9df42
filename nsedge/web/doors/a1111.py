"""The A1111 door: pictures in the shape of stable-diffusion-webui's API, which many front ends
speak."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, TypedDict

import msgspec
from aiohttp import web

from nsedge.api import Imagine, Media, Picture, Request
from nsedge.api.imagine import MAX_GUIDANCE, MAX_PICTURES, MAX_STEPS, STRENGTH
from nsedge.errors import InvalidParameter
from nsedge.security.keyring import Scope
from nsedge.web.access import needs
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import Integer, gives, json_answer, read_json, takes
from nsedge.web.choices import Choice
from nsedge.web.door import Door
from nsedge.web.errors import Refusal
from nsedge.web.hints import Picture as PictureField
from nsedge.web.hints import between, hint
from nsedge.web.inline_media import picture_of
from nsedge.web.other_fields import OtherFields
from nsedge.web.request_fields import SchedulingBody, check_length, scheduling

SAMPLERS = {
    "Euler": "euler",
    "Euler Karras": "euler-karras",
    "Euler a": "euler-ancestral",
    "Heun": "heun",
    "Heun Karras": "heun-karras",
    "DDIM": "ddim",
    "DPM++ 2M": "dpmpp-2m",
    "DPM++ 2M Karras": "dpmpp-2m-karras",
    "DPM++ 2M SDE": "dpmpp-2m-sde",
    "DPM++ 2M SDE Karras": "dpmpp-2m-sde-karras",
    "LCM": "lcm",
    "PLMS": "pndm",
    "UniPC": "unipc",
    "UniPC Karras": "unipc-karras",
}
"""Our schedulers by the names that front ends know."""
EVEN, KARRAS = ("Automatic", "Normal", ""), "Karras"
ANY_SEED = -1
NAMES = {
    "count": "batch_size",
    "guidance": "cfg_scale",
    "image": "init_images",
    "strength": "denoising_strength",
}
"""What our fields are called here."""
_OTHERS = OtherFields(
    own={
        "alwayson_scripts": ({},),
        "comments": ({},),
        "disable_extra_networks": (False,),
        "enable_hr": (False,),
        "eta": (0,),
        "firstpass_image": (),
        "force_task_id": (),
        "image_cfg_scale": (),
        "include_init_images": (False,),
        "infotext": (),
        "initial_noise_multiplier": (1,),
        "inpaint_full_res": (False,),
        "inpainting_fill": (1,),
        "inpainting_mask_invert": (0,),
        "latent_mask": (),
        "mask_blur": (0,),
        "mask_blur_x": (0,),
        "mask_blur_y": (0,),
        "mask_round": (True,),
        "refiner_checkpoint": ("",),
        "resize_mode": (0,),
        "restore_faces": (False,),
        "s_churn": (0,),
        "s_noise": (1,),
        "save_images": (False,),
        "script_name": ("",),
        "seed_resize_from_h": (-1, 0),
        "seed_resize_from_w": (-1, 0),
        "send_images": (True,),
        "styles": ([],),
        "subseed_strength": (0,),
        "tiling": (False,),
    },
    harmless=frozenset(
        {
            *("do_not_save_grid", "do_not_save_samples", "override_settings_restore_afterwards"),
            *("subseed", "inpaint_full_res_padding", "script_args", "refiner_switch_at"),
            *("hr_scale", "hr_upscaler", "hr_second_pass_steps", "hr_resize_x", "hr_resize_y"),
            *("hr_checkpoint_name", "hr_sampler_name", "hr_scheduler", "hr_prompt"),
            *("hr_negative_prompt", "firstphase_width", "firstphase_height"),
            *("s_min_uncond", "s_tmin", "s_tmax"),
        }
    ),
)


class OverrideSettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a request sets for itself alone."""

    sd_model_checkpoint: str | None = None
    """The model."""


class TextBody(SchedulingBody, kw_only=True):
    """`POST /sdapi/v1/txt2img`."""

    prompt: str = ""
    negative_prompt: str = ""
    seed: Integer = ANY_SEED
    sampler_name: str | None = None
    sampler_index: str | None = None
    """The older name of the same."""
    scheduler: str | None = None
    """How noise falls: `Automatic`, `Normal` or `Karras`."""
    batch_size: Annotated[Integer, between((1, MAX_PICTURES))] = 1
    n_iter: Annotated[Integer, between((1, MAX_PICTURES))] = 1
    steps: Annotated[Integer, between((1, MAX_STEPS))] | None = None
    cfg_scale: Annotated[float, between((0, MAX_GUIDANCE))] | None = None
    width: Annotated[Integer, hint(minimum=1)] | None = None
    height: Annotated[Integer, hint(minimum=1)] | None = None
    denoising_strength: Annotated[float, between((0, 1))] | None = None
    """Of what is gone on from."""
    override_settings: OverrideSettings | None = None


class ImageBody(TextBody, kw_only=True):
    """`POST /sdapi/v1/img2img`."""

    init_images: Annotated[list[PictureField], hint(minItems=1, maxItems=1)]
    mask: PictureField | None = None


class Made(TypedDict):
    """Pictures, in base64, what they were asked with, and as JSON in a text what they are made
    of."""

    images: list[str]
    parameters: dict[str, Any]
    info: str


class SamplerObject(TypedDict):
    """A sampler that may be named."""

    name: str
    aliases: list[str]
    options: dict[str, str]


class ModelEntry(TypedDict):
    """A model that makes pictures."""

    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str
    config: str | None


class ErrorBody(TypedDict):
    """What went wrong. errors: the same, for clients that look there."""

    error: str
    detail: str
    errors: str


@needs(Scope.INFER)
@takes(TextBody, _OTHERS)
@gives(Made)
async def txt2img(http: web.Request) -> web.Response:
    """`POST /sdapi/v1/txt2img`: pictures of a prompt."""
    return await _made(http, await read_json(http, TextBody, _OTHERS))


@needs(Scope.INFER)
@takes(ImageBody, _OTHERS)
@gives(Made)
async def img2img(http: web.Request) -> web.Response:
    """`POST /sdapi/v1/img2img`: pictures that go on from one, or from the light parts of a mask."""
    return await _made(http, await read_json(http, ImageBody, _OTHERS))


@needs(Scope.READ)
@gives(list[SamplerObject], asks_core=False)
async def samplers(http: web.Request) -> web.Response:
    """`GET /sdapi/v1/samplers`."""
    told = [SamplerObject(name=name, aliases=[ours], options={}) for name, ours in SAMPLERS.items()]
    return json_answer(told)


@needs(Scope.READ)
@gives(list[ModelEntry])
async def sd_models(http: web.Request) -> web.Response:
    """`GET /sdapi/v1/sd-models`."""
    answering = http.app[ANSWERING]
    models = await answering.ask(answering.service.models())
    return json_answer(
        [
            ModelEntry(
                title=one.name,
                model_name=one.name,
                hash=None,
                sha256=None,
                filename=one.name,
                config=None,
            )
            for one in models
            if Imagine.name in one.tasks
        ]
    )


async def _made(http: web.Request, body: TextBody) -> web.Response:
    answering = http.app[ANSWERING]
    check_length(len(body.prompt) + len(body.negative_prompt), answering.limits, "prompt")
    task = imagine_of(body)
    named = body.override_settings.sd_model_checkpoint if body.override_settings else None
    with answering.label(http) as label:
        model = await answering.model(named or None, task=Imagine.name)
        request = Request(request_id=label, model=model.name, task=task, **scheduling(body))
        request.check()
        (choice,) = await answering.whole(http, [request])
    return json_answer(made_of(choice, body))


def imagine_of(body: TextBody) -> Imagine:
    """What a body asks for.

    Raises:
        InvalidParameter: naming the field.
    """
    image: Media | None = None
    mask: Media | None = None
    if isinstance(body, ImageBody):
        if len(body.init_images) != 1:
            raise InvalidParameter("init_images are one picture", param="init_images")
        image = picture_of(body.init_images[0], "init_images[0]", param="init_images")
        if body.mask is not None:
            mask = picture_of(body.mask, "mask", param="mask")
    strength = STRENGTH
    if image is not None and body.denoising_strength is not None:
        strength = body.denoising_strength
    return Imagine(
        prompt=body.prompt,
        negative_prompt=body.negative_prompt,
        width=body.width,
        height=body.height,
        steps=body.steps,
        guidance=body.cfg_scale,
        scheduler=scheduler_of(body.sampler_name or body.sampler_index, body.scheduler),
        seed=None if body.seed == ANY_SEED else body.seed % 2**64,
        count=body.batch_size * body.n_iter,
        image=image,
        mask=mask,
        strength=strength,
    )


def scheduler_of(sampler: str | None, falls: str | None) -> str | None:
    """Our scheduler of a sampler's name and how noise falls; None where neither is said.

    Raises:
        InvalidParameter: there is none such.
    """
    if falls not in (None, KARRAS, *EVEN):
        raise InvalidParameter(
            f"scheduler is Automatic, Normal or {KARRAS}, not {falls!a}", param="scheduler"
        )
    if not sampler:
        if falls == KARRAS:
            raise InvalidParameter(f"{KARRAS} wants a sampler_name", param="scheduler")
        return None
    name = f"{sampler} {KARRAS}" if falls == KARRAS and KARRAS not in sampler else sampler
    known = SAMPLERS | {ours: ours for ours in SAMPLERS.values()}
    if name not in known:
        raise InvalidParameter(
            f"there is no sampler {name!a}; there are {', '.join(SAMPLERS)}", param="sampler_name"
        )
    return known[name]


def made_of(choice: Choice, body: TextBody) -> Made:
    """The answer: pictures in their order, and what each is made of."""
    pictures = sorted(
        (one for one in choice.results if isinstance(one, Picture)), key=lambda one: one.index
    )
    first = pictures[0].record
    info = {
        "prompt": first.prompt,
        "negative_prompt": first.negative_prompt,
        "seed": first.seed,
        "all_seeds": [one.record.seed for one in pictures],
        "width": first.width,
        "height": first.height,
        "sampler_name": first.scheduler,
        "cfg_scale": first.guidance,
        "steps": first.steps,
        "batch_size": body.batch_size,
        "denoising_strength": first.strength,
        "sd_model_name": first.model,
        "sd_model_hash": first.digest[:10],
    }
    asked: dict[str, Any] = msgspec.to_builtins(body)
    for field in ("init_images", "mask"):
        asked.pop(field, None)
    return {
        "images": [base64.b64encode(one.data).decode("ascii") for one in pictures],
        "parameters": asked,
        "info": json.dumps(info),
    }


def error_body(refusal: Refusal) -> bytes:
    """The error object that tells of `refusal`."""
    named = NAMES.get(refusal.param or "", refusal.param)
    told = f"{named}: {refusal.message}" if named else refusal.message
    return msgspec.json.encode(ErrorBody(error=refusal.code, detail=told, errors=told))


DOOR = Door(
    name="a1111",
    prefixes=("/sdapi/v1",),
    routes=(
        web.post("/sdapi/v1/txt2img", txt2img),
        web.post("/sdapi/v1/img2img", img2img),
        web.get("/sdapi/v1/samplers", samplers),
        web.get("/sdapi/v1/sd-models", sd_models),
    ),
    error_body=error_body,
    error_kind=ErrorBody,
)
