"""The doors that other servers' clients speak at, in front of the real daemon: the same answer at
each, and readers that go away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from bench.daemon import free_port
from exporters.bundle.starter import NAME as MODEL
from tests.integration.test_access_real import up
from tests.web_server import Answer, Connection, ask

pytestmark = pytest.mark.integration

ASKED = "Name the capital of France."
MESSAGES = [{"role": "user", "content": ASKED}]
TOKENS = 12
WITHIN_S = 180
GREEDY = {"temperature": 0, "num_predict": TOKENS}
BODIES: dict[str, dict[str, Any]] = {
    "/api/chat": {"messages": MESSAGES, "options": GREEDY},
    "/api/generate": {"prompt": ASKED, "options": GREEDY},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": TOKENS, "temperature": 0},
    "/v1/responses": {"input": ASKED, "max_output_tokens": TOKENS, "temperature": 0},
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": TOKENS, "temperature": 0},
}
"""The same request at every door."""


@pytest.fixture(scope="module")
def port(starter_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    shared = free_port()
    with up(
        tmp_path_factory.mktemp("client-doors"),
        NSEDGE_MODELS_LOAD=str(starter_bundle.resolve()),
        NSEDGE_WEB_PORT=str(shared),
    ):
        yield shared


def run(test: Callable[[], Awaitable[Any]]) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(WITHIN_S):
            return await test()

    return asyncio.run(within())


def asked(port: int, path: str, body: object = None) -> Answer:
    answer: Answer = run(lambda: ask(port, "GET" if body is None else "POST", path, body))
    return answer


def records(answer: Answer) -> list[Any]:
    """The objects of a stream, whether they come as lines or as events."""
    lines = (line.removeprefix(b"data: ") for line in answer.body.splitlines())
    return [msgspec.json.decode(line) for line in lines if line.startswith(b"{")]


def text_in(record: dict[str, Any]) -> str:
    """The text that an object of any stream carries."""
    match record:
        case {"message": {"content": str(text)}}:
            return text
        case {"response": str(text)}:
            return text
        case {"type": "content_block_delta", "delta": {"text": str(text)}}:
            return text
        case {"type": "response.output_text.delta", "delta": str(text)}:
            return text
        case {"choices": [{"delta": {"content": str(text)}}]}:
            return text
        case {"content": str(text)}:
            return text
    return ""


def is_end(record: dict[str, Any]) -> bool:
    """Whether an object of any stream is its end, good or bad."""
    kinds = {"message_stop", "response.completed", "response.incomplete", "response.failed"}
    ended = [one for one in record.get("choices", ()) if one.get("finish_reason")]
    return bool(
        record.get("done") or record.get("stop") or record.get("type") in kinds or ended
    ) or ("error" in record and record.get("type") in (None, "error"))


def test_every_door_gives_the_same_answer(port: int) -> None:
    texts = set()
    for path, body in BODIES.items():
        told = records(asked(port, path, {"model": MODEL, "stream": True, **body}))
        assert [is_end(one) for one in told].count(True) == 1
        texts.add("".join(map(text_in, told)))
    assert len(texts) == 1
    assert "Paris" in texts.pop()


def test_prompts_and_tokens(port: int) -> None:
    template = asked(port, "/apply-template", {"messages": MESSAGES}).json["prompt"]
    assert isinstance(template, str)
    assert ASKED in template
    tokens: Any = asked(port, "/tokenize", {"content": template}).json["tokens"]
    assert asked(port, "/detokenize", {"tokens": tokens}).json == {"content": template}
    count = {"model": MODEL, "messages": MESSAGES}
    assert asked(port, "/v1/messages/count_tokens", count).json == {"input_tokens": len(tokens)}
    raw = {"prompt": template, "temperature": 0, "n_predict": TOKENS}
    assert "Paris" in str(asked(port, "/completion", raw).json["content"])
    gap = asked(port, "/infill", {"input_prefix": "a", "input_suffix": "b"})
    assert gap.status == 400
    assert "not trained to fill a gap" in gap.body.decode()


def test_a_conversation_of_responses_goes_on(port: int) -> None:
    body = {"model": MODEL, **BODIES["/v1/responses"]}
    first: Any = asked(port, "/v1/responses", body).json
    second: Any = asked(
        port, "/v1/responses", {**body, "input": "And?", "previous_response_id": first["id"]}
    ).json
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    assert asked(port, f"/v1/responses/{first['id']}").json == first


def test_readers_that_go_away_free_their_slots(port: int) -> None:
    async def test() -> None:
        for path, body in BODIES.items():
            endless = {"max_tokens": 400, "max_output_tokens": 400} | {"options": {}}
            wanted = {name: endless.get(name, value) for name, value in body.items()}
            connection = await Connection.open(port)
            connection.say("POST", path, {"model": MODEL, "stream": True, **wanted})
            assert (await connection.head())[0] == 200
            connection.abort()
        async with aiohttp.ClientSession() as session:

            async def running() -> int:
                async with session.get(f"http://127.0.0.1:{port}/api/stats") as answer:
                    stats = (await answer.json())["stats"]["models"][MODEL]
                return int(stats["running"] + stats["waiting"])

            while await running():  # each look is a request, which takes its time
                pass

    run(test)
