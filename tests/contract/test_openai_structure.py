"""Structured output with the official `openai` client: its own types, whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel

from nsedge.api import Chat, Constraint, Delta
from tests.contract.test_openai_client import shim_in_a_thread
from tests.fakes import MODEL, FakeService

QUESTION = "Who is it?"


class Person(BaseModel):
    """Somebody."""

    name: str
    friends: list[str]


ADA = Person(name="Ada", friends=["Charles"])
ASKED: Any = [{"role": "user", "content": QUESTION}]
PIECES = tuple(
    Delta(request_id="", seq=seq, text=text, token_ids=(seq,))
    for seq, text in enumerate(['{"name": "Ada', '", "friends": ', '["Charles"]}'])
)


@pytest.fixture(scope="module")
def service() -> FakeService:
    return FakeService(shows={QUESTION: PIECES})


@pytest.fixture(scope="module")
def client(service: FakeService) -> Iterator[OpenAI]:
    with (
        shim_in_a_thread(service) as shim,
        OpenAI(base_url=f"{shim.url}/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):
        yield client


def asked(service: FakeService) -> Constraint | None:
    task = service.requests[-1].task
    assert isinstance(task, Chat)
    return task.constraint


def test_parse_gives_the_type_and_asks_for_its_schema(client: OpenAI, service: FakeService) -> None:
    answer = client.chat.completions.parse(model=MODEL, messages=ASKED, response_format=Person)
    assert answer.choices[0].message.parsed == ADA
    held = asked(service)
    assert held is not None
    assert held.kind == "json_schema"
    assert json.loads(held.value) == to_strict_json_schema(Person)
    assert list(json.loads(held.value)["properties"]) == ["name", "friends"]


def test_the_stream_helper_parses_it_piece_by_piece(client: OpenAI, service: FakeService) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=ASKED, response_format=Person
    ) as stream:
        parsed = [event.parsed for event in stream if event.type == "content.delta"]
        assert stream.get_final_completion().choices[0].message.parsed == ADA
    assert parsed[-1] == ADA.model_dump()
    assert asked(service) is not None


def test_json_mode(client: OpenAI, service: FakeService) -> None:
    mode: Any = {"type": "json_object"}
    answer = client.chat.completions.create(model=MODEL, messages=ASKED, response_format=mode)
    assert Person.model_validate_json(answer.choices[0].message.content or "") == ADA
    assert asked(service) == Constraint.json_object()
