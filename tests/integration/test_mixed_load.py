"""32 streams over every door at once: plain text, tools, grammars and several choices, some of
which their readers leave half-way. Each ends exactly once, and no slot stays taken."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench.daemon import free_port
from nsedge.api import (
    ChoiceFinished,
    Constraint,
    Delta,
    Event,
    Finished,
    FinishReason,
    Message,
    Role,
    Sampling,
    Tool,
    ToolCallDelta,
    ToolChoice,
    is_terminal,
)
from nsedge.api.stream import EventStream
from nsedge.ipc.client import AsyncClient
from tests.integration.test_access_real import up
from tests.integration.test_engine_real import MODEL
from tests.web_server import Connection, ask

pytestmark = pytest.mark.integration

WITHIN_S = 300
TOKENS = 16
LONG = 1500
"""Tokens of a stream that is left half-way; it does not end by itself."""
QUESTION = "Name a city, and how large it is."
TURNS: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "size": {"enum": [1, 2, 3]}},
    "required": ["city", "size"],
    "additionalProperties": False,
}
ENDLESS: dict[str, Any] = {"type": "array", "items": {"type": "integer"}, "minItems": LONG}
FUNCTION: dict[str, Any] = {"name": "city", "description": "A city.", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": FUNCTION}]
FORMAT = {"type": "json_schema", "name": "city", "schema": SCHEMA}
GRAMMAR = 'root ::= ("Rome" | "Oslo") " is " ("large" | "small") "."'
CHOICES = 4


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request over HTTP. end: what its stream ends with, a pattern; found `times` times."""

    path: str
    body: dict[str, Any]
    end: bytes
    times: int = 1

    @property
    def url_path(self) -> str:
        """Without what tells two requests of one route apart."""
        return self.path.partition("#")[0]


OPENAI = {"model": MODEL, "messages": TURNS, "max_tokens": TOKENS, "stream": True}
COMPLETION = {"model": MODEL, "prompt": QUESTION, "max_tokens": TOKENS, "stream": True}
REASON = rb'"finish_reason":"'
DONE = rb"(?m)^data: \[DONE\]$"
RESPONSE = rb"(?m)^event: response\.(completed|incomplete|failed)$"
STOPPED = rb"(?m)^event: (message_stop|error)$"
WHOLE = [
    Asked(path="/v1/chat/completions", body=OPENAI, end=DONE),
    Asked(
        path="/v1/chat/completions#tools",
        body=OPENAI | {"tools": TOOLS, "tool_choice": "required", "max_tokens": 80},
        end=REASON,
    ),
    Asked(path="/v1/chat/completions#n", body=OPENAI | {"n": CHOICES}, end=REASON, times=CHOICES),
    Asked(path="/v1/completions", body=COMPLETION | {"echo": True, "logprobs": 2}, end=DONE),
    Asked(
        path="/v1/completions#n",
        body=COMPLETION | {"n": CHOICES, "guided_json": SCHEMA, "max_tokens": 60},
        end=REASON,
        times=CHOICES,
    ),
    Asked(
        path="/v1/responses",
        body={
            "model": MODEL,
            "input": QUESTION,
            "max_output_tokens": 60,
            "text": {"format": FORMAT},
            "stream": True,
        },
        end=RESPONSE,
    ),
    Asked(
        path="/v1/messages",
        body={
            "model": MODEL,
            "messages": TURNS,
            "max_tokens": 80,
            "tools": [{"name": "city", "input_schema": SCHEMA}],
            "tool_choice": {"type": "any"},
            "stream": True,
        },
        end=STOPPED,
    ),
    Asked(
        path="/api/chat",
        body={"model": MODEL, "messages": TURNS, "format": SCHEMA, "options": {"num_predict": 60}},
        end=rb'"done":true',
    ),
    Asked(
        path="/api/generate",
        body={"model": MODEL, "prompt": QUESTION, "options": {"num_predict": TOKENS}},
        end=rb'"done":true',
    ),
    Asked(
        path="/completion",
        body={"prompt": QUESTION, "grammar": GRAMMAR, "n_predict": 40, "stream": True},
        end=rb'"stop":true',
    ),
    Asked(
        path="/chat/stream",
        body={"messages": TURNS, "config": {"maxTokens": TOKENS}},
        end=rb'"type":"(done|error)"',
    ),
    Asked(
        path="/api/generate/stream",
        body={"text": QUESTION, "max_tokens": TOKENS},
        end=rb'"done":true',
    ),
    Asked(
        path="/api/v1/generate/stream",
        body={"prompt": QUESTION, "max_tokens": TOKENS},
        end=rb'"type":"(complete|error)"',
    ),
]
GOES_ON = {"max_tokens": LONG, "ignore_eos": True}
LEFT = [
    Asked(path="/v1/chat/completions", body=OPENAI | GOES_ON | {"n": CHOICES}, end=DONE),
    Asked(path="/v1/completions", body=COMPLETION | GOES_ON, end=DONE),
    Asked(
        path="/v1/responses",
        body={
            "model": MODEL,
            "input": QUESTION,
            "max_output_tokens": LONG,
            "ignore_eos": True,
            "stream": True,
        },
        end=RESPONSE,
    ),
    Asked(
        path="/api/chat",
        body={"model": MODEL, "messages": TURNS, "format": ENDLESS},
        end=rb'"done":true',
    ),
    Asked(
        path="/completion",
        body={"prompt": QUESTION, "n_predict": LONG, "ignore_eos": True, "stream": True},
        end=rb'"stop":true',
    ),
    Asked(
        path="/chat/stream",
        body={"messages": TURNS, "config": {"maxTokens": LONG, "ignoreEos": True}},
        end=rb'"type":"done"',
    ),
    Asked(path="/api/v1/generate/stream", body={"prompt": QUESTION, **GOES_ON}, end=rb'"complete"'),
]
OVER_SOCKET: dict[str, dict[str, Any]] = {
    "text": {"type": "generate", "text": QUESTION, "sampling": {"max_tokens": TOKENS}},
    "choices": {
        "type": "generate",
        "text": QUESTION,
        "sampling": {"max_tokens": TOKENS, "n": CHOICES},
    },
    "regex": {
        "type": "chat",
        "messages": TURNS,
        "sampling": {"max_tokens": 40},
        "constraint": {"kind": "regex", "value": "(Rome|Oslo), [1-9][0-9]{0,6}"},
    },
    "tools": {
        "type": "chat",
        "messages": TURNS,
        "sampling": {"max_tokens": 80},
        "tools": [{"function": FUNCTION}],
        "tool_choice": "required",
    },
    "left": {
        "type": "generate",
        "text": QUESTION,
        "sampling": {"max_tokens": LONG, "ignore_eos": True},
    },
}
SAID = [Message(role=Role.USER, content=QUESTION)]


@pytest.fixture(scope="module")
def site(
    starter_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, str]]:
    """The shim's port, and the core's endpoint."""
    home, port = tmp_path_factory.mktemp("load"), free_port()
    with up(home, NSEDGE_MODELS_LOAD=str(starter_bundle.resolve()), NSEDGE_WEB_PORT=str(port)):
        yield port, f"ipc://{home}/core.sock"


async def read_whole(port: int, asked: Asked) -> None:
    answer = await ask(port, "POST", asked.url_path, asked.body)
    assert answer.status == 200, (asked.path, answer.body)
    assert len(re.findall(asked.end, answer.body)) == asked.times, (asked.path, answer.body)
    assert not re.search(rb'"error":[^n]', answer.body), (asked.path, answer.body)


async def leave(port: int, asked: Asked) -> None:
    """Vanish once the answer has begun."""
    connection = await Connection.open(port)
    connection.say("POST", asked.url_path, asked.body)
    status, _ = await connection.head()
    assert status == 200, asked.path
    seen = [await connection.chunk() for _ in range(3)]
    assert not re.search(asked.end, b"".join(seen)), asked.path
    connection.abort()


async def over_websocket(port: int) -> None:
    """Several requests on one socket, one of which is cancelled half-way."""
    ends: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    choices = 0
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/v1/stream", max_msg_size=0) as socket,
    ):
        for label, message in OVER_SOCKET.items():
            await socket.send_str(json.dumps({"id": label, "model": MODEL, **message}))
        cancelled = False
        while len(ends) < len(OVER_SOCKET):
            event = await socket.receive_json()
            assert event["type"] not in ("failed", "choice_failed"), event
            assert not ends[event["id"]], event
            if event["type"] == "finished":
                ends[event["id"]] += 1
                reasons[event["id"]] = event["reason"]
            choices += event["type"] == "choice_finished"
            if (event["id"], event["type"]) == ("left", "delta") and not cancelled:
                cancelled = True
                await socket.send_str(json.dumps({"type": "cancel", "id": "left"}))
        await socket.send_str(json.dumps({"type": "ping"}))
        assert (await socket.receive_json())["type"] == "pong"
    assert choices == CHOICES
    assert [label for label, reason in reasons.items() if reason == "cancelled"] == ["left"]


async def over_zeromq(endpoint: str) -> None:
    """The tasks of one client, two of which are cancelled half-way."""
    few = Sampling(max_tokens=80)
    goes_on = Sampling(max_tokens=LONG, ignore_eos=True)
    async with AsyncClient(endpoint) as client:
        tools = (Tool(function=FUNCTION),)
        schema = Constraint.json_schema(SCHEMA)
        streams = {
            "text": client.generate(MODEL, QUESTION, sampling=Sampling(max_tokens=TOKENS)),
            "choices": client.chat(
                MODEL, SAID, sampling=Sampling(max_tokens=60, n=CHOICES), constraint=schema
            ),
            "tools": client.chat(
                MODEL, SAID, sampling=few, tools=tools, tool_choice=ToolChoice.REQUIRED
            ),
            "gbnf": client.chat(MODEL, SAID, sampling=few, constraint=Constraint.gbnf(GRAMMAR)),
            "told": client.generate(
                MODEL, QUESTION, sampling=Sampling(max_tokens=TOKENS, logprobs=3, prompt_logprobs=3)
            ),
            "left": client.generate(MODEL, QUESTION, sampling=goes_on),
            "left choices": client.generate(
                MODEL, QUESTION, sampling=Sampling(max_tokens=LONG, ignore_eos=True, n=CHOICES)
            ),
        }
        found = await asyncio.gather(
            *(events_of(stream, left="left" in name) for name, stream in streams.items())
        )
    for name, events in zip(streams, found, strict=True):
        assert [is_terminal(event) for event in events].count(True) == 1, name
        last = events[-1]
        assert isinstance(last, Finished), (name, last)
        assert (last.reason is FinishReason.CANCELLED) == ("left" in name)
        if name == "choices":
            ended = [event.choice for event in events if isinstance(event, ChoiceFinished)]
            assert sorted(ended) == list(range(CHOICES))
        if name == "tools":
            assert any(isinstance(event, ToolCallDelta) for event in events)


async def events_of(stream: EventStream, *, left: bool) -> list[Event]:
    """All events of a stream, which is cancelled after its third text where it is `left`."""
    events: list[Event] = []
    async with stream:
        async for event in stream:
            events.append(event)
            if left and sum(isinstance(one, Delta) for one in events) == 3:
                stream.cancel()
    return events


async def model_stats(port: int) -> dict[str, Any]:
    answer: Any = (await ask(port, "GET", "/api/stats")).json
    found: dict[str, Any] = answer["stats"]["models"][MODEL]
    return found


def test_32_mixed_streams_over_all_doors_end_once_each(site: tuple[int, str]) -> None:
    port, endpoint = site
    assert len(WHOLE) + len(LEFT) + len(OVER_SOCKET) + 7 == 32

    async def test() -> None:
        async with asyncio.timeout(WITHIN_S):
            before = Counter((await model_stats(port))["finished"])
            await asyncio.gather(
                *(read_whole(port, asked) for asked in WHOLE),
                *(leave(port, asked) for asked in LEFT),
                over_websocket(port),
                over_zeromq(endpoint),
            )
            ended = Counter[str]()
            while ended.total() < 32:  # each look is a request, which takes its time
                after = await model_stats(port)
                ended = Counter(after["finished"])
                ended.subtract(before)
        assert ended.total() == 32
        assert ended["cancelled"] == len(LEFT) + 1 + 2
        assert (after["running"], after["waiting"], after["kv_tokens_used"]) == (0, 0, 0)
        slots: Any = (await ask(port, "GET", "/slots")).json
        assert slots
        assert not any(slot["is_processing"] for slot in slots)

    asyncio.run(test())
