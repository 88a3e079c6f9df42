"""The OpenAPI document: every route, made of the types that are read, and a page of it."""

from __future__ import annotations

import functools
import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from jsonschema import Draft202012Validator

from nsedge.web import doors
from nsedge.web.bodies import given_by, taken_by
from nsedge.web.door import JSON, Door
from nsedge.web.errors import STATUSES, Refusal
from nsedge.web.multipart import FORM
from nsedge.web.openapi import document
from tests.web_server import answered

BODYLESS = {
    "/v1/moderations",
    *("/api/pull", "/api/push", "/api/create", "/api/copy"),
}
"""Routes that answer the same whatever they are sent."""


def all_routes() -> list[tuple[Door, web.RouteDef]]:
    return [
        (door, route)
        for door in doors.ALL
        for route in (*door.routes, *(shared.route for shared in door.shared))
    ]


@functools.cache
def told() -> dict[str, Any]:
    return document(doors.ALL, keys=False)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def test_every_route_is_told_with_its_door() -> None:
    paths = told()["paths"]
    for door, route in all_routes():
        path = re.sub(r":[^{}]*\}", "}", route.path)
        operation = paths[path][route.method.lower()]
        assert door.name in operation["tags"]
        assert operation["summary"]
        assert not operation["summary"].startswith("`")


@pytest.mark.parametrize(
    "route", [r for _, r in all_routes() if r.method == "POST"], ids=lambda route: route.path
)
def test_every_body_is_told_by_its_type(route: web.RouteDef) -> None:
    if route.path in BODYLESS:
        assert taken_by(route.handler) is None
        return
    taken = taken_by(route.handler)
    assert taken is not None, f"{route.path} does not say what it takes"
    fields = set(taken.kind.__struct_encode_fields__)
    content = told()["paths"][route.path]["post"]["requestBody"]["content"]
    assert set(content) >= set(taken.types)
    if FORM in taken.types:
        properties = set(content[FORM]["schema"]["properties"])
        assert {*taken.files, *taken.lists} <= properties <= fields | set(taken.files)
    if JSON in taken.types:
        names = {one.rpartition("/")[2] for one in references(content[JSON])}
        components = told()["components"]["schemas"]
        assert any(fields == set(components[name]["properties"]) for name in names)


@pytest.mark.parametrize(
    "route", [r for _, r in all_routes()], ids=lambda route: f"{route.method} {route.path}"
)
def test_every_answer_is_told_by_its_type(route: web.RouteDef) -> None:
    given = given_by(route.handler)
    assert given is not None, f"{route.path} does not say what it gives"
    path = re.sub(r":[^{}]*\}", "}", route.path)
    responses = told()["paths"][path][route.method.lower()]["responses"]
    assert "default" not in responses
    for status, response in responses.items():
        if status == "101":
            continue
        assert response["description"]
        assert all(one["schema"] for one in response["content"].values())
    if given.kind is not None:
        assert JSON in responses["200"]["content"]
    if given.stream is not None:
        media_type = given.stream.framing.content_type.partition(";")[0]
        assert media_type in responses["200"]["content"]


@pytest.mark.parametrize("door", doors.ALL, ids=lambda door: door.name)
def test_errors_have_the_shape_that_is_told(door: Door) -> None:
    figures = {"context_tokens": 8, "prompt_tokens": 9}
    for code in STATUSES:
        refusal = Refusal(code=code, message="no", request_id="r-1", figures=figures)
        body = door.error_body(refusal)
        assert msgspec.json.encode(msgspec.json.decode(body, type=door.error_kind)) == body


def test_every_code_is_told_somewhere() -> None:
    operations = [one for methods in told()["paths"].values() for one in methods.values()]
    keyed = document(doors.ALL, keys=True)["paths"].values()
    operations += [one for methods in keyed for one in methods.values()]
    found = {
        code
        for operation in operations
        for response in operation["responses"].values()
        for code in re.findall(r"`(\w+)`", response["description"])
    }
    assert found >= set(STATUSES) - {"method_not_allowed"}, "405 is of methods that are not told"


def test_a_form_tells_its_files() -> None:
    body = told()["paths"]["/v1/audio/transcriptions"]["post"]["requestBody"]["content"]
    assert list(body) == ["multipart/form-data"]
    form = body["multipart/form-data"]["schema"]
    assert form["properties"]["file"] == {"type": "string", "format": "binary", "minLength": 1}
    assert form["properties"]["model"]["maxLength"] == 256
    assert form["properties"]["timestamp_granularities"]["type"] == "array"
    assert set(form["required"]) == {"model", "file"}
    generate = told()["paths"]["/api/generate"]["post"]["requestBody"]["content"]
    assert {"application/json", "multipart/form-data"} <= set(generate)
    assert list(told()["paths"]["/v1/embeddings"]["post"]["requestBody"]["content"]) == [
        "application/json"
    ]


@pytest.mark.parametrize(
    ("kind", "fits", "value"),
    [
        ("Block", True, {"type": "text", "text": "a"}),
        ("Block", False, {"type": "text", "text": None}),
        ("Block", True, {"type": "thinking"}),
        ("Block", False, {"type": "tool_use", "id": "c"}),
        ("Block", False, {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "x"}]}),
        ("Source", False, {"type": "base64", "data": "YQ=="}),
        ("StructuredOutputs", True, {"json": None, "regex": "a", "json_object": False}),
        ("StructuredOutputs", False, {"regex": "a", "json_object": True}),
        ("Recording", True, {"data": "YQ==", "format": "wav"}),
        ("nsedge.web.doors.anthropic.bodies.Turn", True, {"role": "user", "content": "a"}),
        (
            "nsedge.web.doors.anthropic.bodies.Turn",
            False,
            {"role": "user", "content": [{"type": "thinking"}]},
        ),
        ("ChatTurn", False, {"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}),
        ("ChatTurn", True, {"role": "assistant", "content": [{"type": "refusal", "refusal": "n"}]}),
    ],
)
def test_rules_between_fields(kind: str, fits: bool, value: Any) -> None:
    assert validator(kind).is_valid(value) is fits


@pytest.mark.parametrize(
    ("fits", "fields"),
    [
        (True, {}),
        (True, {"grammar": "", "regex": "a", "response_format": {"type": "text"}}),
        (True, {"structured_outputs": {"json": None}, "guided_json": True}),
        (False, {"regex": "a", "ebnf": "b"}),
        (False, {"response_format": {"type": "json_object"}, "guided_choice": ["a"]}),
        (False, {"structured_outputs": {"json": {}}, "guided_json_object": True}),
        (True, {"max_tokens": 5, "max_completion_tokens": 5}),
        (True, {"max_tokens": 5.0, "stop_token_ids": [1.0]}),
        (False, {"max_tokens": 5.5}),
    ],
)
def test_bodies_as_the_document_and_the_door_see_them(fits: bool, fields: dict[str, Any]) -> None:
    body = {"text": "a", **fields}
    document_says = validator("nsedge.web.doors.generate.GenerateBody").is_valid(body)
    door_says = answered("POST", "/api/generate", body).status == 200
    assert (document_says, door_says) == (fits, fits)


def test_the_schema_of_a_form() -> None:
    content = told()["paths"]["/api/generate"]["post"]["requestBody"]["content"]
    form = Draft202012Validator({**content[FORM]["schema"], "components": told()["components"]})
    assert form.is_valid({"text": "a", "raw": True, "image": "pixels"})
    assert not form.is_valid({"text": "a", "image": ""})
    assert form.is_valid({"text": "a", "structured_outputs": None})
    assert not form.is_valid({"text": "a", "structured_outputs": "{}"})
    heard = told()["paths"]["/v1/audio/transcriptions"]["post"]["requestBody"]["content"]
    assert heard[FORM]["schema"]["additionalProperties"] is False


def validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(told() | {"$ref": f"#/components/schemas/{kind}"})


def test_every_reference_leads_somewhere_and_every_name_is_told_once() -> None:
    whole = told()
    names = whole["components"]["schemas"]
    found = set(references(whole))
    assert found
    assert {one.removeprefix("#/components/schemas/") for one in found} <= set(names)
    operations = [one for methods in whole["paths"].values() for one in methods.values()]
    ids = [one["operationId"] for one in operations]
    assert len(set(ids)) == len(ids)
    assert len(operations) == len({(r.method, r.path) for _, r in all_routes()})


def test_links_lead_to_operations_with_what_these_take() -> None:
    whole = told()
    operations = {
        one["operationId"]: one for methods in whole["paths"].values() for one in methods.values()
    }
    led = 0
    for operation in operations.values():
        links = operation["responses"].get("200", {}).get("links", {})
        for name, link in links.items():
            led += 1
            target = operations[link["operationId"]]
            taken = {f"path.{one['name']}" for one in target.get("parameters", ())}
            assert {*link.get("parameters", ())} <= taken, name
            body = target.get("requestBody", {}).get("content", {}).get(JSON, {})
            names = [one.rpartition("/")[2] for one in references(body)]
            fields = {*()}.union(*(whole["components"]["schemas"][n]["properties"] for n in names))
            assert {*link.get("requestBody", ())} <= fields, name
    assert led >= 10


def test_parameters_of_a_path_and_what_two_doors_answer() -> None:
    paths = told()["paths"]
    (name,) = paths["/v1/models/{name}"]["get"]["parameters"]
    assert (name["name"], name["in"], name["required"]) == ("name", "path", True)
    both = paths["/api/generate"]["post"]
    assert both["tags"] == ["generate", "ollama"]
    schemas = both["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert len(schemas) == 2


def test_keys_are_told_where_they_are_asked_for() -> None:
    assert "security" not in told()
    asked = document(doors.ALL, keys=True)
    assert asked["security"] == [{"key": []}]
    assert asked["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    assert asked["paths"]["/live"]["get"]["security"] == []
    assert asked["paths"]["/chat"]["post"]["x-scope"] == "infer"


def test_the_document_and_its_page_are_served() -> None:
    answer = answered("GET", "/openapi.json")
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.body == msgspec.json.encode(told())
    page = answered("GET", "/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    text = page.body.decode()
    style = re.search(r"<style>(.*?)</style>", text)
    assert style is not None
    digest = b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page.headers["content-security-policy"]
    for path in told()["paths"]:
        assert f" {path}</code>" in text
    assert "<code>creativity_level</code>" in text


def test_a_door_alone_has_none_of_the_others() -> None:
    alone = document([doors.studio.DOOR], keys=False)
    assert all(path.startswith("/api/v1/") for path in alone["paths"])
