"""stable-diffusion-webui's API, over a real loopback socket."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from nsedge.api import Imagine, Media
from tests.fakes import MODEL, FakeService
from tests.web_server import answered

TEXT, IMAGE = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
PNG = b"\x89PNG\r\n\x1a\n a little picture"
AS_BASE64 = base64.b64encode(PNG).decode()


def service() -> FakeService:
    return FakeService(tasks=("imagine",))


def test_pictures_of_a_prompt() -> None:
    asked = service()
    body = {
        "prompt": "a quay",
        "negative_prompt": "fog",
        "seed": 3,
        "sampler_name": "DPM++ 2M",
        "scheduler": "Karras",
        "batch_size": 2,
        "n_iter": 1,
        "steps": 9,
        "cfg_scale": 7,
        "width": 64,
        "height": 32,
        "denoising_strength": 0.7,
        "enable_hr": False,
        "styles": [],
        "hr_scale": 2,
        "override_settings": {"sd_model_checkpoint": MODEL},
    }
    answer = answered("POST", TEXT, body, service=asked)
    assert answer.status == 200
    told: Any = answer.json
    assert [base64.b64decode(one) for one in told["images"]] == [b"a quay 3", b"a quay 4"]
    info = json.loads(told["info"])
    assert (info["all_seeds"], info["sampler_name"]) == ([3, 4], "dpmpp-2m-karras")
    assert told["parameters"]["prompt"] == "a quay"
    (request,) = asked.requests
    assert request.task == Imagine(
        prompt="a quay",
        negative_prompt="fog",
        seed=3,
        scheduler="dpmpp-2m-karras",
        count=2,
        steps=9,
        guidance=7.0,
        width=64,
        height=32,
    )


def test_what_a_picture_goes_on_from() -> None:
    asked = service()
    body = {
        "prompt": "a quay",
        "init_images": [f"data:image/png;base64,{AS_BASE64}"],
        "mask": AS_BASE64,
        "denoising_strength": 0.5,
    }
    assert answered("POST", IMAGE, body, service=asked).status == 200
    (request,) = asked.requests
    assert isinstance(request.task, Imagine)
    assert request.task.image == request.task.mask == Media(type="image/png", data=PNG)
    assert (request.task.strength, request.task.seed) == (0.5, None)


@pytest.mark.parametrize(
    ("sampler", "falls", "ours"),
    [
        (None, None, None),
        (None, "Automatic", None),
        ("Euler a", "Automatic", "euler-ancestral"),
        ("Euler", "Karras", "euler-karras"),
        ("DPM++ 2M SDE Karras", None, "dpmpp-2m-sde-karras"),
        ("PLMS", "Normal", "pndm"),
        ("unipc", None, "unipc"),
    ],
)
def test_samplers_by_the_names_that_front_ends_know(
    sampler: str | None, falls: str | None, ours: str | None
) -> None:
    asked = service()
    body = {"prompt": "a", "sampler_index": sampler, "scheduler": falls}
    assert answered("POST", TEXT, body, service=asked).status == 200
    (request,) = asked.requests
    assert isinstance(request.task, Imagine)
    assert request.task.scheduler == ours


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        (TEXT, {"sampler_name": "Foo"}, "sampler_name: there is no sampler 'Foo'; there are Euler"),
        (TEXT, {"scheduler": "Exponential"}, "scheduler is Automatic, Normal or Karras"),
        (TEXT, {"sampler_name": "DDIM", "scheduler": "Karras"}, "no sampler 'DDIM Karras'"),
        (TEXT, {"scheduler": "Karras"}, "Karras wants a sampler_name"),
        (TEXT, {"enable_hr": True}, "enable_hr is not supported here"),
        (TEXT, {"styles": ["anime"]}, "styles is not supported here"),
        (TEXT, {"batch_size": 9, "n_iter": 2}, "batch_size: count must be at least 1 and at most"),
        (TEXT, {"cfg_scale": 101}, "cfg_scale"),
        (TEXT, {"override_settings": {"eta_ddim": 1}}, "eta_ddim"),
        (IMAGE, {}, "init_images"),
        (IMAGE, {"init_images": []}, "init_images are one picture"),
        (IMAGE, {"init_images": ["!"]}, "init_images[0] is not base64"),
        (IMAGE, {"init_images": [AS_BASE64], "inpainting_fill": 2}, "inpainting_fill"),
        (IMAGE, {"init_images": [AS_BASE64], "denoising_strength": 0}, "denoising_strength: "),
    ],
)
def test_what_is_refused_is_named(path: str, fields: dict[str, Any], message: str) -> None:
    answer = answered("POST", path, {"prompt": "a", **fields}, service=service())
    assert answer.status == 400
    assert message in answer.json["detail"]
    assert answer.json["errors"] == answer.json["detail"]


def test_models_and_samplers_are_listed() -> None:
    models: Any = answered("GET", "/sdapi/v1/sd-models", service=service()).json
    assert [one["model_name"] for one in models] == [MODEL]
    assert answered("GET", "/sdapi/v1/sd-models", service=FakeService(tasks=("chat",))).json == []
    told: Any = answered("GET", "/sdapi/v1/samplers", service=service()).json
    assert {"name": "Euler a", "aliases": ["euler-ancestral"], "options": {}} in told


def test_an_unknown_path_is_told_in_its_shape() -> None:
    answer = answered("GET", "/sdapi/v1/cmd-flags", service=service())
    assert answer.status == 404
    assert answer.json["error"] == "unknown_route"
