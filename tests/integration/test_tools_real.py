"""Tools with the real model behind the shim, through the official `openai` client: it is small, so
that only a grammar makes it call one, and then with arguments that validate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from openai import BadRequestError, OpenAI, pydantic_function_tool
from pydantic import BaseModel, Field

from bench.daemon import free_port
from tests.integration.test_access_real import up
from tests.integration.test_engine_real import MODEL

pytestmark = pytest.mark.integration


class Weather(BaseModel):
    """The weather in a city."""

    city: str
    unit: Literal["celsius", "fahrenheit"]


class Mail(BaseModel):
    """Send an e-mail."""

    to: str
    subject: str = Field(max_length=40)
    urgent: bool


KINDS: dict[str, type[BaseModel]] = {"Weather": Weather, "Mail": Mail}
TOOLS: Any = [
    {"type": "function", "function": {**tool["function"], "strict": False}}
    for tool in map(pydantic_function_tool, KINDS.values())
]
ASKED: Any = [{"role": "user", "content": "What is the weather in Paris?"}]


@pytest.fixture(scope="module")
def client(starter_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    port = free_port()
    with (
        up(
            tmp_path_factory.mktemp("tools"),
            NSEDGE_MODELS_LOAD=str(starter_bundle.resolve()),
            NSEDGE_WEB_PORT=str(port),
        ),
        OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=120
        ) as client,
    ):
        yield client


@pytest.mark.parametrize("seed", range(4))
def test_a_required_call_has_arguments_that_validate(client: OpenAI, seed: int) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ASKED,
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=1.2 * (seed > 0),
        seed=seed,
        max_tokens=300,
    )
    (choice,) = answer.choices
    assert choice.message.content is None
    (call,) = choice.message.tool_calls or ()
    assert call.type == "function"
    if choice.finish_reason == "tool_calls":
        KINDS[call.function.name].model_validate_json(call.function.arguments, strict=True)
    else:  # an odd word went on until there was no room
        assert choice.finish_reason == "length"
        assert seed > 0


def test_a_call_by_name_streams_as_it_comes_whole(client: OpenAI) -> None:
    asked: Any = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell bob@example.com that it rains."}],
        "tools": TOOLS,
        "tool_choice": {"type": "function", "function": {"name": "Mail"}},
        "temperature": 0,
        "max_tokens": 200,
    }
    whole = client.chat.completions.create(**asked).choices[0]
    (call,) = whole.message.tool_calls or ()
    assert call.type == "function"
    Mail.model_validate_json(call.function.arguments, strict=True)
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
    pieces = [piece for chunk in chunks for piece in chunk.delta.tool_calls or ()]
    assert [piece.function.name for piece in pieces if piece.id and piece.function] == ["Mail"]
    told = "".join(piece.function.arguments or "" for piece in pieces if piece.function)
    assert told == call.function.arguments
    assert len(pieces) > 5
    assert chunks[-1].finish_reason == whole.finish_reason == "tool_calls"


def test_a_result_is_read_and_answered(client: OpenAI) -> None:
    turns: Any = [
        *ASKED,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "Weather", "arguments": json.dumps({"city": "Paris"})},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "17 degrees, light rain"},
    ]
    answer = client.chat.completions.create(
        model=MODEL, messages=turns, tools=TOOLS, temperature=0, max_tokens=60
    )
    assert "17" in (answer.choices[0].message.content or "")


def test_a_prefill_is_gone_on_with(client: OpenAI) -> None:
    turns: Any = [
        {"role": "user", "content": "Name the capital of France."},
        {"role": "assistant", "content": "The capital of France is"},
    ]
    answer = client.chat.completions.create(
        model=MODEL,
        messages=turns,
        temperature=0,
        max_tokens=8,
        extra_body={"continue_final_message": True},
    )
    assert (answer.choices[0].message.content or "").startswith(" Paris")


def test_a_schema_that_is_none_is_refused_by_name(client: OpenAI) -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "no such type"}}}
    tools: Any = [{"type": "function", "function": {"name": "odd", "parameters": parameters}}]
    with pytest.raises(BadRequestError, match="no such type") as caught:
        client.chat.completions.create(
            model=MODEL, messages=ASKED, tools=tools, tool_choice="required"
        )
    assert caught.value.param == "tools"
