"""The chat service, the generate door and the studio in front of the real daemon, as their clients
use them: whole and streamed, killed in mid-stream, and over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.daemon import free_port
from tests.integration.test_access_real import up
from tests.web_server import Answer, Connection, ask

pytestmark = pytest.mark.integration

ASKED = "Name the capital of France."
TURN = {"messages": [{"role": "user", "content": ASKED}]}
EVENTS = {"accept": "text/event-stream"}
TOKENS = 16
WITHIN_S = 120


@pytest.fixture(scope="module")
def ports(
    starter_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, int]]:
    """Of the shim, and of the chat service."""
    shared, own = free_port(), free_port()
    with up(
        tmp_path_factory.mktemp("doors"),
        NSEDGE_MODELS_LOAD=str(starter_bundle.resolve()),
        NSEDGE_WEB_PORT=str(shared),
        NSEDGE_WEB_LISTENERS=f"chat=127.0.0.1:{own}",
    ):
        yield shared, own


def run(test: Callable[[], Awaitable[Any]]) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(WITHIN_S):
            return await test()

    return asyncio.run(within())


def asked(port: int, path: str, body: object = None, **headers: str) -> Answer:
    method = "GET" if body is None else "POST"
    answer: Answer = run(lambda: ask(port, method, path, body, **headers))
    return answer


def lines(answer: Answer) -> list[Any]:
    return [msgspec.json.decode(line) for line in answer.body.splitlines()]


def joined(records: list[Any], field: str) -> str:
    return "".join(one[field] for one in records if field in one)


def test_every_door_gives_the_same_answer_however_it_is_cut(ports: tuple[int, int]) -> None:
    shared, own = ports
    greedy = {"maxTokens": TOKENS, "temperature": 0}
    text = asked(own, "/chat", TURN | {"config": greedy}).json["content"]
    assert text
    for chunk in ("token", "adaptive", 20):
        config = greedy | {"chunk": chunk}
        records = lines(asked(own, "/chat/regular/stream", TURN | {"config": config}))
        assert joined(records, "content") == text
        assert [one["type"] for one in records[-2:]] == ["fragment", "done"]
        assert records[-1]["predicted_tokens"] <= TOKENS
        body = {"text": ASKED, "max_tokens": TOKENS, "temperature": 0, "chunk": chunk}
        told: list[Any] = asked(shared, "/api/generate/stream", body).data
        assert joined(told, "text") == text
        idea = {"prompt": ASKED, "max_tokens": TOKENS, "temperature": 0, "chunk": chunk}
        told = asked(shared, "/api/v1/generate/stream", idea).data
        assert joined(told, "content") == text
        progress = [one["progress"] for one in told]
        assert progress == sorted(progress)
        assert (progress[0], progress[-1]) == (0.0, 1.0)
    pieces = [one["content"] for one in records[:-2]]
    assert all(len(piece) >= 20 for piece in pieces)


def test_a_batch_and_an_ensemble(ports: tuple[int, int]) -> None:
    shared, own = ports
    (model,) = (one["model_key"] for one in asked(own, "/models").json["models"])  # type: ignore[attr-defined]
    body = {"prompts": [ASKED, ""], "models": [model, "none"], "max_tokens": 4, "temperature": 0}
    answer: Any = asked(shared, "/api/v1/generate/batch", body).json
    assert (answer["success_count"], answer["failed_count"]) == (1, 3)
    live: list[Any] = asked(shared, "/api/v1/generate/batch", body, **EVENTS).data
    assert [one["type"] for one in live] == ["start", *["idea"] * 4, "complete"]
    said = {one["idea"]["content"] for one in live if one["type"] == "idea"}
    assert said == {answer["ideas"][0]["content"], ""}
    best = {"prompt": ASKED, "models": [model, "none"], "mode": "best", "max_tokens": 4}
    told: Any = asked(shared, "/api/v1/generate/ensemble", best).json
    assert told["chosen"]["mean_logprob"] <= 0.0
    assert told["ideas"][1]["mean_logprob"] is None


def test_pictures_are_refused_by_name(ports: tuple[int, int]) -> None:
    _, own = ports
    image = {"data_base64": "cGl4ZWxz", "mime_type": "image/png"}
    turn = {"role": "user", "content": "What is it?", "images": [image]}
    answer = asked(own, "/chat/stream", {"messages": [turn]})
    assert answer.status == 400
    assert answer.json == {
        "detail": "messages[0].images[0]: this model reads text, and takes no image/png;"
        " a model that captions pictures is missing here"
    }


def cancelled(port: int) -> int:
    models: Any = asked(port, "/api/stats").json["stats"]["models"]  # type: ignore[index]
    return sum(one["finished"].get("cancelled", 0) for one in models.values())


def test_clients_that_are_killed_in_mid_stream_leave_nothing_running(
    ports: tuple[int, int],
) -> None:
    shared, own = ports
    before = cancelled(shared)
    long = {"max_tokens": 2000, "ignore_eos": True}
    wanted = [
        (own, "/chat/stream", TURN | {"config": {"maxTokens": 2000, "ignoreEos": True}}),
        (shared, "/api/generate/stream", {"text": ASKED, **long}),
        (shared, "/api/v1/generate/stream", {"prompt": ASKED, **long}),
        (shared, "/api/v1/generate/batch", {"prompts": [ASKED, ASKED], **long}),
    ]

    async def killed() -> None:
        connections = []
        for port, path, body in wanted:
            connection = await Connection.open(port)
            connection.say("POST", path, body)
            connections.append(connection)
        for connection in connections[:3]:
            await connection.head()
            await connection.chunk()
        await until_running(shared, 5)
        for connection in connections:
            connection.abort()
        await until_running(shared, 0)

    run(killed)
    assert cancelled(shared) == before + 5


async def until_running(port: int, wanted: int) -> None:
    running = -1
    while running != wanted:
        answer: Any = (await ask(port, "GET", "/api/stats")).json
        running = sum(one["running"] for one in answer["stats"]["models"].values())


def test_models_come_and_go(ports: tuple[int, int]) -> None:
    _, own = ports
    (model,) = (one["model_key"] for one in asked(own, "/models").json["models"])  # type: ignore[attr-defined]
    assert asked(own, "/models/unload", {"unload_all": True}).json["models"] == [model]
    assert asked(own, "/models").json == {"models": []}
    loaded = asked(own, "/models/load", {"model_key": model, "exclusive": True}).json
    assert loaded == {"loaded": True, "model_key": model, "status": "loaded"}
    assert asked(own, "/models/load", {"model_key": "none"}).json == {
        "loaded": False,
        "error": "Failed to load model: Model not found",
        "model_key": "none",
    }


def test_ratings_are_there_after_a_restart(starter_bundle: Path, tmp_path: Path) -> None:
    port = free_port()
    served = {
        "NSEDGE_MODELS_LOAD": str(starter_bundle.resolve()),
        "NSEDGE_WEB_PORT": str(port),
    }
    with up(tmp_path, **served):
        body = {"prompt": ASKED, "category": "cities", "max_tokens": 2}
        told: list[Any] = asked(port, "/api/v1/generate/stream", body).data
        path = f"/api/v1/ideas/{told[0]['idea_id']}/rating"
        assert asked(port, path, {"rating": 4}).json["average_rating"] == 4.0
    with up(tmp_path, **served):
        assert asked(port, path, {"rating": 2}).json["average_rating"] == 2.0
        stats: Any = asked(port, "/api/v1/stats").json
        assert (stats["total_ideas"], stats["categories"]) == (1, {"cities": 1})
