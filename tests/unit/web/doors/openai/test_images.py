"""`POST /v1/images/generations` to the letter, over a real loopback socket."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from nsedge.api import Imagine
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL, FakeService
from tests.web_server import answered

PATH = "/v1/images/generations"


def service() -> FakeService:
    return FakeService(tasks=("imagine",))


def test_pictures_come_in_their_order() -> None:
    asked = service()
    body = {"prompt": "a quay", "n": 2, "size": "64x128", "seed": 3, "model": MODEL}
    answer = answered("POST", PATH, body, service=asked)
    assert answer.status == 200
    told: Any = answer.json
    assert [base64.b64decode(one["b64_json"]) for one in told["data"]] == [
        b"a quay 3",
        b"a quay 4",
    ]
    assert [one["seed"] for one in told["data"]] == [3, 4]
    assert (told["size"], told["output_format"]) == ("64x128", "png")
    assert told["created"] > 1_600_000_000
    (request,) = asked.requests
    assert request.task == Imagine(prompt="a quay", width=64, height=128, seed=3, count=2)


def test_all_fields_and_no_model() -> None:
    asked = service()
    body = {
        "prompt": "a quay",
        "negative_prompt": "fog",
        "steps": 8,
        "guidance_scale": 4,
        "guidance_rescale": 0.5,
        "scheduler": "unipc",
        "size": "auto",
        "response_format": "b64_json",
        "quality": "auto",
        "background": "opaque",
        "output_format": "png",
        "user": "me",
        "deadline_s": 60,
    }
    assert answered("POST", PATH, body, service=asked).status == 200
    (request,) = asked.requests
    assert (request.model, request.deadline_s) == (MODEL, 60.0)
    assert request.task == Imagine(
        prompt="a quay",
        negative_prompt="fog",
        steps=8,
        guidance=4.0,
        guidance_rescale=0.5,
        scheduler="unipc",
    )


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"response_format": "url"}, "response_format", "no picture is kept that a url"),
        ({"size": "big"}, "size", "size is WIDTHxHEIGHT, such as 512x512, or auto, not 'big'"),
        ({"size": "0x64"}, "size", "not '0x64'"),
        ({"n": 0}, "n", "at least 1"),
        ({"n": 17}, "n", "at most 16"),
        ({"steps": 0}, "steps", "at least 1"),
        ({"guidance_scale": 101}, "guidance_scale", "at most 100"),
        ({"background": "transparent"}, "background", "background is not supported here"),
        ({"output_format": "webp"}, "output_format", "output_format is not supported here"),
        ({"quality": "hd"}, "quality", "quality is not supported here"),
        ({"style": "vivid"}, "style", "style is not supported here"),
        ({"stream": True}, "stream", "stream is not supported here"),
        ({"negativ_prompt": "x"}, "negativ_prompt", "did you mean negative_prompt?"),
        ({"prompt": ""}, "prompt", "prompt is empty"),
    ],
)
def test_what_is_refused_is_named(fields: dict[str, Any], param: str, message: str) -> None:
    answer = answered("POST", PATH, {"prompt": "a", "model": MODEL, **fields}, service=service())
    error: Any = answer.json["error"]
    assert (answer.status, error["param"]) == (400, param)
    assert message in error["message"]


def test_a_long_prompt_and_models_that_make_no_pictures() -> None:
    long = answered(
        "POST", PATH, {"prompt": "a" * 11}, service=service(), limits=WebLimits(max_prompt_chars=10)
    )
    assert long.status == 413
    other = FakeService(tasks=("chat",))
    answer = answered("POST", PATH, {"prompt": "a"}, service=other)
    assert answer.status == 503
    assert "imagine" in answer.json["error"]["message"]
