"""The studio, over a real loopback socket, and its stream to the letter."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nsedge.api import Chat, Generate, LoadWish, Priority
from nsedge.errors import InsufficientMemory
from nsedge.security.watched_file import WatchedFile
from nsedge.web.adaptations import read_adaptations
from nsedge.web.door_settings import DoorSettings
from nsedge.web.doors.studio.stream import IdeaStream
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL, FakeService
from tests.unit.web.events import FAILED, STARTED, delta, finished, whole
from tests.web_server import Shim, answered, ask, served


def stream(expected_tokens: int = 4) -> tuple[IdeaStream, list[int]]:
    done: list[int] = []
    return IdeaStream(
        "idea-1",
        expected_tokens=expected_tokens,
        ended_well=lambda event: done.append(event.usage.completion_tokens),
    ), done


def test_a_stream_to_the_letter() -> None:
    one, done = stream()
    assert (
        whole(one, STARTED, delta("Hé"), delta("\n"), finished())
        == (
            'data: {"type":"start","idea_id":"idea-1","progress":0.0}\n\n'
            'data: {"type":"chunk","content":"Hé","idea_id":"idea-1","progress":0.25}\n\n'
            'data: {"type":"chunk","content":"\\n","idea_id":"idea-1","progress":0.5}\n\n'
            'data: {"type":"complete","idea_id":"idea-1","progress":1.0}\n\n'
        ).encode()
    )
    assert (one.ended, done) == (True, [2])


def test_a_failure_of_a_stream() -> None:
    one, done = stream()
    assert whole(one, STARTED, FAILED) == (
        b'data: {"type":"start","idea_id":"idea-1","progress":0.0}\n\n'
        b'data: {"type":"error","idea_id":"idea-1","message":"broke"}\n\n'
    )
    assert (one.ended, done) == (True, [])


def test_progress_never_falls_and_is_whole_at_the_end_alone() -> None:
    one, _ = stream(expected_tokens=2)
    told = whole(one, STARTED, *(delta(str(number)) for number in range(5)), finished())
    progress = [msgspec.json.decode(line[6:])["progress"] for line in told.split(b"\n\n") if line]
    assert progress == [0.0, 0.5, 0.99, 0.99, 0.99, 0.99, 1.0]


def test_an_idea_is_streamed_counted_and_rated() -> None:
    asked = {"prompt": "a b", "category": "travel", "model": MODEL, "max_tokens": 2}

    async def test(shim: Shim) -> None:
        answer = await ask(shim.port, "POST", "/api/v1/generate/stream", asked)
        told: Any = answer.data
        assert [one["type"] for one in told] == ["start", "chunk", "chunk", "complete"]
        assert [one["progress"] for one in told] == [0.0, 0.5, 0.99, 1.0]
        (idea_id,) = {one["idea_id"] for one in told}
        path = f"/api/v1/ideas/{idea_id}/rating"
        rated = await ask(shim.port, "POST", path, {"rating": 4})
        assert rated.json == {"idea_id": idea_id, "rating": 4, "average_rating": 4.0}
        stats: Any = (await ask(shim.port, "GET", "/api/v1/stats")).json
        assert (stats["total_ideas"], stats["categories"]) == (1, {"travel": 1})
        assert stats["average_rating"] == 4.0
        (recent,) = stats["recent_activity"]
        assert (recent["id"], recent["model_used"], recent["rating"]) == (idea_id, MODEL, 4)
        assert datetime.datetime.fromisoformat(recent["created_at"]).tzinfo is not None
        assert stats["model_stats"] == {
            "total_models": 1,
            "available_models": 1,
            "loaded_models": 1,
            "current_model": MODEL,
        }
        streams = stats["streaming_stats"]
        assert (streams["active_sessions"], streams["total_streaming_requests"]) == (0, 1)
        assert streams["average_streaming_time"] > 0

    served(test)


def asked_of(service: FakeService) -> list[str]:
    texts = []
    for request in service.requests:
        task = request.task
        assert isinstance(task, Chat | Generate)
        texts.append(task.text if isinstance(task, Generate) else task.messages[0].text)
    return texts


@pytest.mark.parametrize(
    ("fields", "adaptation", "text"),
    [
        ({}, None, "p"),
        ({"category": "general"}, None, "p"),
        ({"category": "travel"}, None, "p\n\nAnswer on the subject of travel."),
        (
            {"category": "travel", "language": "French"},
            {},
            "p\n\nAnswer on the subject of travel, in French.",
        ),
        ({"language": "French"}, {"style": "structured"}, "Language: French\nPrompt: p"),
        ({}, {"prefix": "[INST] ", "suffix": " [/INST]"}, "[INST] p [/INST]"),
        (
            {"category": "travel"},
            {"prefix": "> ", "style": "structured"},
            "> Category: travel\nPrompt: p",
        ),
    ],
)
def test_how_models_are_prompted(
    fields: dict[str, str], adaptation: dict[str, str] | None, text: str, tmp_path: Path
) -> None:
    service, settings = FakeService(), DoorSettings()
    if adaptation is not None:
        file = tmp_path / "adaptations.json"
        file.write_bytes(msgspec.json.encode({MODEL: adaptation}))
        settings = DoorSettings(adaptations=WatchedFile(file, read_adaptations))
    asked = {"prompt": "p", **fields}
    answered("POST", "/api/v1/generate/stream", asked, service=service, settings=settings)
    assert asked_of(service) == [text]
    raw = adaptation is not None and "prefix" in adaptation
    assert isinstance(service.requests[0].task, Generate if raw else Chat)


@pytest.mark.parametrize(
    ("fields", "temperature"),
    [
        ({}, None),
        ({"creativity_level": 1}, 0.1),
        ({"creativity_level": 10}, 1.0),
        ({"creativity_level": 10, "temperature": 0.3}, 0.3),
    ],
)
def test_creativity_is_a_temperature(fields: dict[str, Any], temperature: float | None) -> None:
    service = FakeService()
    for path, asked in (("stream", {"prompt": "a"}), ("batch", {"prompts": ["a"]})):
        answered("POST", f"/api/v1/generate/{path}", asked | fields, service=service)
    for request in service.requests:
        assert isinstance(request.task, Chat)
        assert request.task.sampling.temperature == temperature


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("generate/stream", {"prompt": ""}, 400, "prompt is empty"),
        ("generate/stream", {"prompt": "a", "model": "x"}, 404, "no model 'x' is served here"),
        ("generate/stream", {"prompt": "a", "creativity_level": 11}, 400, "creativity_level: "),
        ("generate/stream", {"prompt": "a", "tools": [{}]}, 400, "tools is not supported here"),
        ("generate/stream", {"prompt": "x" * 11}, 413, "prompt has 11 characters"),
        ("generate/batch", {"prompts": []}, 400, "prompts: Expected `array` of length >= 1"),
        ("generate/batch", {"prompts": ["a"], "temperature": -1}, 400, "temperature must be"),
        ("generate/batch", {"prompts": ["a"] * 5}, 400, "prompts x models must be at most 4"),
        ("generate/batch", {"prompts": [""], "keep_alive": "soon"}, 400, "keep_alive must be"),
        ("generate/batch", {"prompts": [""], "guided_choice": []}, 400, "guided_choice"),
        ("generate/ensemble", {"prompt": "a", "models": []}, 400, "models: Expected `array`"),
        ("ideas/none/rating", {"rating": 5}, 404, "no idea 'none' is among the latest 1024"),
        ("ideas/none/rating", {"rating": 6}, 400, "rating: Expected `int` <= 5"),
        ("models/preload", {"model_keys": ["a"], "priority": "x"}, 400, "priority: Invalid enum"),
        ("none", {}, 404, "Not Found: POST /api/v1/none"),
    ],
)
def test_refusals(path: str, body: object, status: int, detail: str) -> None:
    limits = WebLimits(max_prompt_chars=10, max_choices=4)
    answer = answered("POST", f"/api/v1/{path}", body, limits=limits)
    assert answer.status == status
    assert list(answer.json) == ["detail", "error"]
    assert str(answer.json["detail"]).startswith(detail)


def test_fields_of_clients_own_are_left_out_and_told() -> None:
    answer = answered("POST", "/api/v1/generate/batch", {"prompts": ["a"], "mood": "x"})
    assert answer.status == 200
    assert answer.headers["x-ignored-fields"] == "mood"


class Full(FakeService):
    async def load(self, wish: LoadWish) -> Any:
        if wish.model == "big":
            raise InsufficientMemory("it takes 9 GiB")
        return await super().load(wish)


@pytest.mark.parametrize(
    ("priority", "wished"),
    [
        ({}, Priority.NORMAL),
        ({"priority": "high"}, Priority.INTERACTIVE),
        ({"priority": "low"}, Priority.BATCH),
    ],
)
def test_models_are_preloaded_each_with_its_own_result(
    priority: dict[str, str], wished: Priority
) -> None:
    service = Full(loaded=False)
    asked = {"model_keys": [MODEL, "big", MODEL]} | priority
    answer = answered("POST", "/api/v1/models/preload", asked, service=service)
    assert answer.json == {
        "message": "2 of 3 models are loaded",
        "results": [
            {"model": MODEL, "success": True, "status": "loaded"},
            {"model": "big", "success": False, "status": "failed", "error": "it takes 9 GiB"},
            {"model": MODEL, "success": True, "status": "already_loaded"},
        ],
        "priority": priority.get("priority", "normal"),
    }
    assert {wish.priority for wish in service.wishes} == {wished}


def test_models_and_how_they_were_used() -> None:
    models: Any = answered("GET", "/api/v1/models").json
    assert [(one["key"], one["state"], one["loaded"]) for one in models["models"]] == [
        (MODEL, "ready", True)
    ]
    assert answered("GET", "/api/v1/models/usage-stats").json == {
        "usage_stats": {
            MODEL: {
                "usage_count": 0,
                "total_time": 1.0,
                "average_time": 0.0,
                "last_used": "2023-11-14T22:13:20+00:00",
                "priority_score": 0.5,
            }
        },
        "intelligent_preload_enabled": True,
        "preload_recommendations": [[MODEL, {"priority_score": 0.5}]],
    }


def test_ratings_are_there_after_a_restart(tmp_path: Path) -> None:
    settings = DoorSettings(ratings_file=tmp_path / "ratings.json")
    for _ in range(2):
        answered("POST", "/api/v1/generate/batch", {"prompts": ["a"]}, settings=settings)
    stats: Any = answered("GET", "/api/v1/stats", settings=settings).json
    assert (stats["total_ideas"], stats["categories"]) == (2, {"general": 2})
