"""Answers of the real model held to a form, over ZeroMQ and through the doors, whole and streamed:
it is small, so that without its form none of them would fit."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from openai import BadRequestError, OpenAI
from pydantic import BaseModel, ConfigDict, Field

from bench.daemon import free_port
from nsedge.api import Constraint, Delta, Failed, Finished, Message, Role, Sampling
from nsedge.ipc.client import AsyncClient
from tests.integration.test_access_real import up
from tests.integration.test_daemon import gather, play, text_of
from tests.integration.test_engine_real import MODEL
from tests.web_server import ask

pytestmark = pytest.mark.integration


class Person(BaseModel):
    """Somebody."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=30)
    age: int = Field(ge=0, le=150)
    colours: list[Literal["red", "green", "blue"]] = Field(max_length=3)
    married: bool


ASKED = "Make up a person, with a name, an age, the colours they like, and whether they married."
TURNS: Any = [{"role": "user", "content": ASKED}]
SCHEMA = Person.model_json_schema()
FORMS: dict[str, tuple[Constraint, Any]] = {
    "schema": (Constraint.json_schema(SCHEMA), Person.model_validate_json),
    "regex": (Constraint.regex(r"\d{4}-\d\d-\d\d"), re.compile(r"\d{4}-\d\d-\d\d").fullmatch),
    "choice": (Constraint.choice(["yes", "no", "may be"]), ["yes", "no", "may be"].index),
    "lark": (
        Constraint.lark('start: "It is " /[a-z]{3,9}/ " (" /[0-9]+/{1,3} ")."'),
        re.compile(r"It is [a-z]{3,9} \(\d+\)\.").fullmatch,
    ),
    "gbnf": (
        Constraint.gbnf('root ::= ("a" | "b") "-" digit digit\ndigit ::= [0-9]'),
        re.compile(r"[ab]-\d\d").fullmatch,
    ),
}


def said(number: int) -> tuple[str, Constraint, Sampling]:
    """Every other one greedy; those that are not have a seed."""
    form = list(FORMS)[number % len(FORMS)]
    sampling = Sampling(
        temperature=1.3 * (number % 2), seed=number, max_tokens=200, prompt_lookup=number % 3 == 0
    )
    return form, FORMS[form][0], sampling


def test_sixteen_forms_at_once_fit_and_read_as_they_do_alone(starter_bundle: Path) -> None:
    async def scene(door: Any, client: AsyncClient) -> None:
        def one(number: int) -> Any:
            _, constraint, sampling = said(number)
            turn = [Message(role=Role.USER, content=f"{number}. {ASKED}")]
            return client.chat(door.model, turn, sampling=sampling, constraint=constraint)

        together = await asyncio.gather(*(gather(one(number)) for number in range(16)))
        for number, events in enumerate(together):
            form, _, _ = said(number)
            end = events[-1]
            assert isinstance(end, Finished), end
            if end.reason == "stop":
                fits = FORMS[form][1](text_of(events))
                assert fits is not None, (form, text_of(events))
            else:
                assert end.reason == "length"
        assert sum(events[-1].reason == "stop" for events in together) >= 12
        for number in range(0, 16, 3):
            assert text_of(await gather(one(number))) == text_of(together[number])

    play(starter_bundle, scene)


def test_what_cannot_be_compiled_is_refused_and_the_next_request_goes_on(
    starter_bundle: Path,
) -> None:
    async def scene(door: Any, client: AsyncClient) -> None:
        for wrong in (Constraint.json_schema({"type": "objekt"}), Constraint.regex("a(")):
            (failed,) = await gather(client.generate(door.model, "x", constraint=wrong))
            assert isinstance(failed, Failed)
            assert (failed.code, failed.param) == ("invalid_parameter", "constraint")
        right = client.generate(door.model, "x", constraint=Constraint.choice(["a"]))
        events = await gather(right)
        assert text_of(events) == "a"
        assert [event.seq for event in events if isinstance(event, Delta)] == [0]

    play(starter_bundle, scene)


@pytest.fixture(scope="module")
def port(starter_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    with up(
        tmp_path_factory.mktemp("structure"),
        NSEDGE_MODELS_LOAD=str(starter_bundle.resolve()),
        NSEDGE_WEB_PORT=str(port),
    ):
        yield port


@pytest.fixture(scope="module")
def openai(port: int) -> Iterator[OpenAI]:
    url = f"http://127.0.0.1:{port}/v1"
    with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


def test_the_openai_client_parses_into_its_own_types(openai: OpenAI) -> None:
    answer = openai.chat.completions.parse(
        model=MODEL, messages=TURNS, response_format=Person, temperature=0, max_tokens=300
    )
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    assert isinstance(choice.message.parsed, Person)
    with openai.chat.completions.stream(
        model=MODEL, messages=TURNS, response_format=Person, temperature=0, max_tokens=300
    ) as stream:
        *_, last = list(stream)
        assert stream.get_final_completion().choices[0].message.parsed == choice.message.parsed
    assert last.type in ("content.done", "chunk")


def test_its_mistakes_are_its_own_errors(openai: OpenAI) -> None:
    wrong: Any = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"type": "object", "not": {}}},
    }
    with pytest.raises(BadRequestError) as caught:
        openai.chat.completions.create(model=MODEL, messages=TURNS, response_format=wrong)
    assert caught.value.message.startswith("Error code: 400")
    assert "response_format (json_schema): " in caught.value.message
    assert caught.value.param == "response_format"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/generate", {"text": ASKED, "guided_json": SCHEMA}, "text"),
        ("/api/chat", {"messages": TURNS, "format": SCHEMA, "stream": False}, "message"),
        ("/v1/completions", {"prompt": ASKED, "structured_outputs": {"json": SCHEMA}}, "choices"),
        ("/completion", {"prompt": ASKED, "json_schema": SCHEMA}, "content"),
    ],
)
def test_every_door_has_a_name_for_it(
    port: int, path: str, body: dict[str, Any], field: str
) -> None:
    wanted = {"model": MODEL, **body}
    wanted |= (
        {"options": {"temperature": 0, "num_predict": 300}}
        if path == "/api/chat"
        else {"temperature": 0, "max_tokens": 300}
    )
    answer = asyncio.run(ask(port, "POST", path, wanted))
    assert answer.status == 200, answer.body
    found: Any = answer.json[field]
    text = found["content"] if field == "message" else found
    text = text[0]["text"] if field == "choices" else text
    assert Person.model_validate(json.loads(text))
