"""Every door passes on what an answer must look like, and names its own field where that is
refused."""

from __future__ import annotations

from typing import Any

import pytest

from nsedge.api import Chat, Constraint, Failed, Generate, Request, Sink
from nsedge.errors import InvalidParameter
from tests.fakes import MODEL, FakeService, FakeTicket
from tests.web_server import answered

TURNS = [{"role": "user", "content": "one two"}]
SCHEMA = {"type": "object", "properties": {"b": {}, "a": {}}}
HELD = Constraint.json_schema('{"type":"object","properties":{"b":{},"a":{}}}')
CHAT = {"model": MODEL, "messages": TURNS}
DOORS: list[tuple[str, dict[str, Any], str]] = [
    (
        "/v1/chat/completions",
        CHAT | {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
        "response_format",
    ),
    ("/v1/completions", {"model": MODEL, "prompt": "a", "guided_json": SCHEMA}, "guided_json"),
    ("/api/generate", {"text": "a", "structured_outputs": {"json": SCHEMA}}, "structured_outputs"),
    ("/api/generate", {"model": MODEL, "prompt": "a", "format": SCHEMA}, "format"),
    ("/api/chat", CHAT | {"format": SCHEMA}, "format"),
    (
        "/v1/messages",
        CHAT | {"max_tokens": 9, "output_format": {"type": "json_schema", "schema": SCHEMA}},
        "output_format",
    ),
    ("/completion", {"prompt": "a", "json_schema": SCHEMA}, "json_schema"),
    ("/chat", {"messages": TURNS, "config": {"jsonSchema": SCHEMA}}, "config.jsonSchema"),
    (
        "/v1/responses",
        {
            "model": MODEL,
            "input": "a",
            "text": {"format": {"type": "json_schema", "name": "s", "schema": SCHEMA}},
        },
        "text.format",
    ),
    ("/v1/responses", {"model": MODEL, "input": "a", "guided_json": SCHEMA}, "guided_json"),
    ("/api/v1/generate/stream", {"prompt": "a", "json_schema": SCHEMA}, "json_schema"),
]


class Refusing(FakeService):
    """Cannot compile any."""

    def submit(self, request: Request, sink: Sink) -> FakeTicket:
        error = InvalidParameter("constraint (json_schema): no such type", param="constraint")
        sink(Failed.of(request.request_id, error))
        return FakeTicket(self, request, sink, ended=True)


@pytest.mark.parametrize(("path", "body", "field"), DOORS)
def test_a_door_passes_it_on(path: str, body: dict[str, Any], field: str) -> None:
    service = FakeService()
    answer = answered("POST", path, body, service=service)
    assert answer.status == 200, answer.body
    (request,) = service.requests
    assert isinstance(request.task, Generate | Chat)
    assert request.task.constraint == HELD


@pytest.mark.parametrize(("path", "body", "field"), DOORS)
def test_a_refusal_names_the_field(path: str, body: dict[str, Any], field: str) -> None:
    answer = answered("POST", path, body, service=Refusing())
    assert answer.status == 400
    assert f"{field} (json_schema): no such type".encode() in answer.body
