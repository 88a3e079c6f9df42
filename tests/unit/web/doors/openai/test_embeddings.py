"""`POST /v1/embeddings` to the letter, over a real loopback socket."""

from __future__ import annotations

import base64
from array import array
from typing import Any

import pytest

from nsedge.api import Embed, Media
from nsedge.web.limits import WebLimits
from tests.fake_answers import DIMENSIONS, vector
from tests.fakes import MODEL, FakeService
from tests.web_server import answered

PATH = "/v1/embeddings"


def body(given: Any, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": given, **fields}


def numbers(text: str | tuple[int, ...], width: int = DIMENSIONS) -> list[float]:
    return array("f", vector(text, width)).tolist()


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("one", ["one"]),
        (["one", "two"], ["one", "two"]),
        ([1, 2, 3], [(1, 2, 3)]),
        ([[1, 2], [3]], [(1, 2), (3,)]),
        (["one", [4, 5]], ["one", (4, 5)]),
    ],
)
def test_every_form_of_input(given: Any, inputs: list[str | tuple[int, ...]]) -> None:
    answer = answered("POST", PATH, body(given))
    assert answer.status == 200
    tokens = answer.json["usage"]["prompt_tokens"]  # type: ignore[index]
    assert answer.json == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": numbers(text)}
            for index, text in enumerate(inputs)
        ],
        "model": MODEL,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


PNG = b"\x89PNG\r\n\x1a\n a little picture"
AS_BASE64 = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ({"text": "one"}, ["one"]),
        ([{"image": AS_BASE64}, {"text": "one"}], [PNG, "one"]),
        (["one", {"image": f"data:image/png;base64,{AS_BASE64}"}], ["one", PNG]),
        ([{"image": f"data:image/webp;x=y;base64,{AS_BASE64}"}], [PNG]),
    ],
)
def test_pictures_as_jinas_clients_send_them(given: Any, inputs: list[str | bytes]) -> None:
    service = FakeService()
    answer = answered("POST", PATH, body(given), service=service)
    assert answer.status == 200
    (request,) = service.requests
    assert isinstance(request.task, Embed)
    sent = [one.data if isinstance(one, Media) else one for one in request.task.inputs]
    assert sent == inputs
    told: Any = answer.json["data"]
    wanted = [array("f", vector(one)).tolist() for one in request.task.inputs]
    assert [one["embedding"] for one in told] == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "input wants either a text or an image"),
        ([{"text": "a", "image": AS_BASE64}], "input[0] wants either a text or an image"),
        (["a", {"image": "https://example.org/a.png"}], "input[1].image: nothing is fetched"),
        ([{"image": "!"}], "input[0].image is not base64"),
        ([{"image": ""}], "input[0].image is empty"),
        ([{"image": "aGVsbG8="}], "input[0].image is no PNG, JPEG, GIF, WebP or BMP"),
        ([{"image": "data:text/plain;base64,aGVsbG8="}], "of text/plain is no image"),
        ([{"image": "data:image/png,hello"}], "a data URL is read where it is base64"),
        ([{"image": "data:image/p_g;base64,aGVsbG8="}], "is no media type like image/png"),
        ([{"picture": "a"}], "unknown field"),
    ],
)
def test_pictures_that_are_none_are_named(given: Any, message: str) -> None:
    answer = answered("POST", PATH, body(given))
    error: Any = answer.json["error"]
    assert (answer.status, error["code"]) == (400, "invalid_parameter")
    assert message in error["message"]
    assert error["param"].startswith("input")


def test_base64_holds_the_same_numbers() -> None:
    answer = answered("POST", PATH, body(["one", "two"], encoding_format="base64", dimensions=2))
    told: Any = answer.json["data"]
    assert [base64.b64decode(one["embedding"]) for one in told] == [
        vector("one", 2),
        vector("two", 2),
    ]


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        (body(""), 400, "empty_prompt", "input"),
        (body([]), 400, "empty_prompt", "input"),
        (body(["a", ""]), 400, "empty_prompt", "input"),
        (body([[]]), 400, "empty_prompt", "input"),
        (body(["a", 1]), 400, "invalid_parameter", "input"),
        (body(["a"] * 2049), 400, "invalid_parameter", "input"),
        (body([-1]), 400, "invalid_parameter", "input[0]"),
        (body("a", dimensions=0), 400, "invalid_parameter", "dimensions"),
        (body("a", dimensions=DIMENSIONS + 1), 400, "invalid_parameter", "dimensions"),
        (body("a", encoding_format="int8"), 400, "invalid_parameter", "encoding_format"),
        (body("a", dimension=2), 400, "invalid_parameter", "dimension"),
        (body("x" * 11), 413, "message_too_large", "input"),
        ({"model": "none", "input": "a"}, 404, "model_not_found", "model"),
        ({"model": MODEL}, 400, "invalid_parameter", "input"),
    ],
)
def test_what_is_refused_is_named(
    fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    answer = answered("POST", PATH, fields, limits=WebLimits(max_prompt_chars=10))
    error: Any = answer.json["error"]
    assert (answer.status, error["code"], error["param"]) == (status, code, param)
    assert error["message"]


def test_a_model_that_writes_text_says_so() -> None:
    service = FakeService(tasks=("generate", "chat"))
    answer = answered("POST", PATH, body("a"), service=service)
    error: Any = answer.json["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "unsupported_task", "model")
