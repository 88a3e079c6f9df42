"""The shim's routes for models in memory."""

from __future__ import annotations

from typing import Any

import pytest

from nsedge.api import Priority
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL, FakeService
from tests.web_server import answered


def post(path: str, body: object, service: FakeService | None = None) -> Any:
    return answered("POST", f"/api/models/{path}", body, service=service or FakeService())


def test_every_model_with_what_it_holds() -> None:
    told: Any = answered("GET", "/api/models").json
    assert told["models"][0]["name"] == MODEL
    assert told["models"][0]["state"] == "ready"
    assert "residency" in told


def test_usage_and_recommendations() -> None:
    told: Any = answered("GET", "/api/models/usage").json
    assert told["models"][MODEL]["priority_score"] == 0.5
    assert told["recommendations"][0]["model"] == MODEL


def test_load_passes_every_wish_on() -> None:
    service = FakeService(loaded=False)
    body = {
        "model": MODEL,
        "priority": "interactive",
        "keep_alive": "5m",
        "pin": True,
        "exclusive": True,
        "wait": False,
    }
    answer = post("load", body, service)
    assert (answer.status, answer.json["outcome"]) == (200, "loaded")
    (wish,) = service.wishes
    assert (wish.priority, wish.keep_alive_s) == (Priority.INTERACTIVE, 300.0)
    assert (wish.pin, wish.exclusive, wish.wait) == (True, True, False)


def test_preload_tells_of_each() -> None:
    answer = post("preload", {"models": [MODEL, "no"], "priority": "batch"})
    assert answer.status == 200
    assert answer.json["priority"] == "batch"
    first, second = answer.json["results"]
    assert first == {"model": MODEL, "outcome": "already_loaded"}
    assert (second["outcome"], second["code"]) == ("failed", "unknown_model")


def test_unload_one_or_all() -> None:
    assert post("unload", {"model": MODEL}).json == {"unloaded": [MODEL]}
    assert post("unload", {"all": True}).json == {"unloaded": [MODEL]}


def test_reload_and_alias() -> None:
    assert post("reload", {"model": MODEL}).json["model"]["name"] == MODEL
    service = FakeService()
    assert post("alias", {"alias": "x", "model": MODEL}, service).json["model"] == MODEL
    assert service.aliases == {"x"}
    assert post("alias", {"alias": "x"}, service).json == {
        "alias": "x",
        "model": None,
        "unkept": None,
    }
    service.unkept = "No space left on device"
    assert post("alias", {"alias": "x"}, service).json["unkept"] == "No space left on device"
    refused = post("alias", {"alias": "a\x1bb", "model": MODEL}, service)
    assert refused.status == 400
    assert refused.json["error"]["param"] == "alias"
    assert service.aliases == set()


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("load", {}, 400, "model"),
        ("load", {"model": MODEL, "keep_alive": "soon"}, 400, "keep_alive"),
        ("load", {"model": "no"}, 404, "model"),
        ("preload", {"models": []}, 400, "models"),
        ("unload", {}, 400, "model"),
        ("unload", {"model": MODEL, "all": True}, 400, "model"),
        ("reload", {"model": "no"}, 404, "model"),
        ("unload", {"model": MODEL, "drain": 3}, 400, "drain"),
    ],
)
def test_refusals(path: str, body: object, status: int, param: str) -> None:
    answer = post(path, body)
    assert (answer.status, answer.json["error"]["param"]) == (status, param)


def test_a_request_says_how_long_its_model_stays() -> None:
    seen: list[float | None] = []

    class Watching(FakeService):
        def submit(self, request, sink):
            seen.append(request.keep_alive_s)
            return super().submit(request, sink)

    body = {"text": "hi", "keep_alive": "now"}
    assert answered("POST", "/api/generate", body, service=Watching()).status == 200
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "keep_alive": -1}
    assert answered("POST", "/v1/chat/completions", chat, service=Watching()).status == 200
    assert seen == [0.0, float("inf")]


def test_loading_does_not_open_a_stream_and_is_told_in_its_silences() -> None:
    quick = WebLimits(keepalive_s=0.02)
    service = FakeService(load_steps=4, pace_s=0.1)
    answer = answered("POST", "/api/generate/stream", {"text": "hi"}, service=service, limits=quick)
    text = b"".join(answer.chunks).decode()
    assert f": loading {MODEL}, 0 before it, " in text
    assert '"done":true' in text
