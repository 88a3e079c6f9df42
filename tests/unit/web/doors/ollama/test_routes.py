"""The Ollama door over a real loopback socket."""

from __future__ import annotations

import asyncio
import dataclasses
from base64 import b64encode
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nsedge.api import (
    Chat,
    Delta,
    Embed,
    Generate,
    Logprobs,
    MediaPart,
    Message,
    ModelCard,
    ModelInfo,
    ReasoningDelta,
    Role,
    TextPart,
    TokenLogprob,
    Tool,
    ToolCallDelta,
)
from nsedge.errors import BundleInvalid
from nsedge.security import keyring
from nsedge.security.keyring import ApiKey, KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from nsedge.web import doors
from nsedge.web.door import Door
from nsedge.web.doors import generate as generate_door
from nsedge.web.doors import ollama
from nsedge.web.limits import WebLimits
from tests.fake_answers import DIMENSIONS
from tests.fakes import MODEL, FakeService
from tests.web_server import Answer, Shim, answered, ask, served, until

HI = [{"role": "user", "content": "a b"}]


def lines(answer: Answer) -> list[Any]:
    return [msgspec.json.decode(line) for line in answer.body.splitlines()]


@pytest.mark.parametrize("model", [MODEL, f"{MODEL}:latest"])
def test_a_chat_streams_lines(model: str) -> None:
    answer = answered("POST", "/api/chat", {"model": model, "messages": HI})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/x-ndjson; charset=utf-8"
    *pieces, last = lines(answer)
    assert [one["message"]["content"] for one in pieces] == ["a", " b"]
    assert {one["model"] for one in (*pieces, last)} == {model}
    assert (last["done"], last["done_reason"], last["prompt_eval_count"]) == (True, "stop", 2)


def test_in_one_piece() -> None:
    body = {"model": MODEL, "messages": HI, "stream": False, "options": {"num_predict": 1}}
    said: Any = answered("POST", "/api/chat", body).json
    assert said["message"] == {"role": "assistant", "content": "a"}
    assert (said["done_reason"], said["eval_count"]) == ("length", 1)
    body = {"model": MODEL, "prompt": "a b", "stream": False}
    assert answered("POST", "/api/generate", body).json["response"] == "a b"


def asked(path: str, body: dict[str, Any]) -> Any:
    """The task that a body became."""
    service = FakeService()
    answer = answered("POST", path, {"model": MODEL, **body}, service=service)
    assert answer.status == 200, answer.body
    return service.requests[-1].task


PNG = b"\x89PNG\r\n\x1a\nrest"


def test_what_a_prompt_becomes() -> None:
    task = asked("/api/generate", {"prompt": "p", "system": "s"})
    assert task.messages == (
        Message(role=Role.SYSTEM, content="s"),
        Message(role=Role.USER, content="p"),
    )
    assert asked("/api/generate", {"prompt": "p", "raw": True}) == Generate(
        text="p", sampling=task.sampling
    )
    gap = asked("/api/generate", {"prompt": "p", "suffix": "s"})
    assert (gap.text, gap.suffix) == ("p", "s")
    shown = asked("/api/chat", {"messages": [*HI, {"role": "tool", "content": "t"}]})
    assert isinstance(shown, Chat)
    assert [turn.role for turn in shown.messages] == [Role.USER, Role.TOOL]


def test_pictures_stand_before_what_is_said_of_them() -> None:
    picture = b64encode(PNG).decode()
    for path, body in (
        ("/api/generate", {"prompt": "p", "images": [picture]}),
        ("/api/chat", {"messages": [{"role": "user", "content": "p", "images": [picture]}]}),
    ):
        (turn,) = asked(path, body).messages
        image, text = turn.content
        assert isinstance(image, MediaPart)
        assert (image.media.type, image.media.data) == ("image/png", PNG)
        assert text == TextPart(text="p")


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
ODD = {"type": "search", "function": {"name": "look"}}


def test_tools_and_what_was_called_of_them() -> None:
    called = {"function": {"name": "look", "arguments": {"at": "ö", "n": 1}}}
    messages = [
        *HI,
        {"role": "assistant", "content": "", "tool_calls": [called], "thinking": "hm"},
        {"role": "tool", "tool_name": "look", "content": "seen"},
    ]
    task = asked("/api/chat", {"messages": messages, "tools": [TOOL]})
    assert task.tools == (Tool(function=TOOL["function"]),)  # type: ignore[arg-type]
    _, said, seen = task.messages
    (call,) = said.tool_calls
    assert (call.name, call.arguments, bool(call.id)) == ("look", '{"at":"ö","n":1}', True)
    assert (said.reasoning, seen.name, seen.content) == ("hm", "look", "seen")


@pytest.mark.parametrize(
    ("think", "arguments", "effort"),
    [
        (None, {}, None),
        (True, {"enable_thinking": True}, None),
        (False, {"enable_thinking": False}, None),
        ("high", {}, "high"),
    ],
)
def test_whether_to_think(think: object, arguments: dict[str, Any], effort: str | None) -> None:
    for path, body in (("/api/chat", {"messages": HI}), ("/api/generate", {"prompt": "p"})):
        task = asked(path, {**body, "think": think})
        assert (task.template_arguments, task.reasoning_effort) == (arguments, effort)
        assert task.split_reasoning


def piece(index: int, arguments: str, name: str | None = None) -> ToolCallDelta:
    return ToolCallDelta(
        request_id="",
        seq=0,
        index=index,
        call_id=name and f"c{index}",
        name=name,
        arguments=arguments,
        token_ids=(1,),
    )


CALLED = (
    ReasoningDelta(request_id="", seq=0, text="hm", token_ids=(1,)),
    Delta(request_id="", seq=0, text="well", token_ids=(1,)),
    piece(0, '{"at"', "look"),
    piece(0, ":1}"),
    piece(1, "{}", "go"),
    piece(2, '{"cut', "stop"),
)
CALLS = [
    {"id": "c0", "function": {"name": "look", "arguments": {"at": 1}}},
    {"id": "c1", "function": {"name": "go", "arguments": {}}},
]


def test_calls_and_thoughts_are_told() -> None:
    service = FakeService(shows={"a b": CALLED})
    body = {"model": MODEL, "messages": HI}
    *parts, last = lines(answered("POST", "/api/chat", body, service=service))
    messages = [part["message"] for part in parts]
    assert messages == [
        {"role": "assistant", "content": "", "thinking": "hm"},
        {"role": "assistant", "content": "well"},
        *({"role": "assistant", "content": "", "tool_calls": [call]} for call in CALLS),
    ]
    assert last["message"] == {"role": "assistant", "content": ""}
    whole: Any = answered("POST", "/api/chat", {**body, "stream": False}, service=service).json
    assert whole["message"] == {
        "role": "assistant",
        "content": "well",
        "thinking": "hm",
        "tool_calls": CALLS,
    }


def test_log_probabilities() -> None:
    other = TokenLogprob(id=2, logprob=-1.0, text="b")
    one = Logprobs(id=1, logprob=-0.5, rank=1, text="a", top=(other,))
    shown = (Delta(request_id="", seq=0, text="a", token_ids=(1,), logprobs=(one,)),)
    service = FakeService(shows={"a b": shown})
    body = {"model": MODEL, "prompt": "a b", "logprobs": True, "top_logprobs": 1}
    told = [
        {
            "token": "a",
            "logprob": -0.5,
            "bytes": [97],
            "top_logprobs": [{"token": "b", "logprob": -1.0, "bytes": [98]}],
        }
    ]
    piece, _ = lines(answered("POST", "/api/generate", body, service=service))
    assert (piece["response"], piece["logprobs"]) == ("a", told)
    whole: Any = answered("POST", "/api/generate", {**body, "stream": False}, service=service).json
    assert whole["logprobs"] == told
    assert [request.task.sampling.logprobs for request in service.requests] == [1, 1]  # type: ignore[union-attr]


def test_vectors() -> None:
    body = {"model": MODEL, "input": ["one", "two", "three"]}
    told: Any = answered("POST", "/api/embed", body).json
    assert [len(one) for one in told["embeddings"]] == [DIMENSIONS] * 3
    assert told["prompt_eval_count"] == 3
    one: Any = answered("POST", "/api/embeddings", {"model": MODEL, "prompt": "one"}).json
    assert one["embedding"] == told["embeddings"][0]
    task = asked("/api/embed", {"input": "x", "dimensions": 2})
    assert task == Embed(inputs=("x",), dimensions=2, truncate=True)
    assert not asked("/api/embed", {"input": "x", "truncate": False}).truncate


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/api/chat", {"messages": HI, "model": "none"}, 404, "model 'none' not found"),
        ("/api/generate", {"prompt": "x", "model": "none:latest"}, 404, "model 'none:latest' not"),
        ("/api/generate", {"model": "none"}, 404, "model 'none' not found"),
        ("/api/show", {"model": "none"}, 404, "model 'none' not found"),
        ("/api/show", {"model": None}, 400, "model is missing"),
        ("/api/generate", {"prompt": "x", "model": None}, 400, "model: Expected `str`"),
        ("/api/chat", {"messages": [{"role": "robot"}]}, 400, "messages[0].role must be one of"),
        ("/api/chat", {"messages": HI, "format": "yaml"}, 400, "format must be json, or a JSON"),
        ("/api/chat", {"messages": HI, "grammar": "x"}, 400, "grammar is not supported"),
        ("/api/chat", {"messages": HI, "tools": [{}]}, 400, "tools[0]: Object missing"),
        ("/api/chat", {"messages": HI, "tools": [{"function": {}}]}, 400, "tools[0].function.name"),
        ("/api/chat", {"messages": HI, "tools": [ODD]}, 400, "tools[0].type must be function"),
        ("/api/chat", {"messages": HI, "top_logprobs": 99}, 400, "top_logprobs: Expected"),
        ("/api/generate", {"prompt": "x", "template": "{{ .Prompt }}"}, 400, "template is not"),
        ("/api/generate", {"prompt": "x", "context": [1]}, 400, "context is not supported"),
        ("/api/generate", {"prompt": "x", "raw": True, "system": "s"}, 400, "system needs a chat"),
        ("/api/generate", {"prompt": "x", "images": ["!"]}, 400, "images[0] is not base64"),
        ("/api/generate", {"prompt": "x", "images": ["AAAA"]}, 400, "images[0] is no PNG"),
        ("/api/generate", {"prompt": "x", "keep_alive": "soon"}, 400, "keep_alive must be"),
        ("/api/generate", {"prompt": "x", "options": {"mirostat": 1}}, 400, "options: mirostat"),
        ("/api/generate", {"prompt": "x" * 200}, 413, "prompt has 200 characters"),
        ("/api/embed", {"input": ["a", ""]}, 400, "input[1] is empty"),
        ("/api/pull", {}, 404, "/api/pull: models are made by nsedge-export"),
        ("/api/nothing", {}, 404, "Not Found"),
    ],
)
def test_errors_are_a_word_of_text(path: str, body: Any, status: int, told: str) -> None:
    limits = WebLimits(max_prompt_chars=100)
    through = (ollama.DOOR,) if path == "/api/nothing" else doors.ALL
    answer = answered("POST", path, {"model": MODEL, **body}, limits=limits, through=through)
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert told in str(answer.json["error"])


def test_an_empty_prompt_loads_and_unloads() -> None:
    service = FakeService(loaded=False)
    seen: list[Any] = []

    async def test(shim: Shim) -> None:
        for path, field, kept in (
            ("/api/generate", "response", 60),
            ("/api/generate", "response", 0),
            ("/api/chat", "message", None),
            ("/api/chat", "message", "0"),
        ):
            body = {"model": MODEL, "keep_alive": kept, "prompt": ""}
            told: Any = (await ask(shim.port, "POST", path, body)).json
            seen.append((told["done_reason"], told["done"], field in told, service.loaded))

    served(test, service)
    assert seen == [
        ("load", True, True, True),
        ("unload", True, True, False),
        ("load", True, True, True),
        ("unload", True, True, False),
    ]
    assert [wish.keep_alive_s for wish in service.wishes] == [60.0, None]


def test_loading_wants_the_scope_for_it(tmp_path: Path) -> None:
    keys = tuple(
        ApiKey(name=scope, sha256=keyring.digest_of(scope), scopes=(Scope.INFER, scope))
        for scope in (Scope.READ, Scope.MANAGE)
    )
    keyring.write(tmp_path / "keys.json", KeyRing(api=keys))
    watched = WatchedFile(tmp_path / "keys.json", keyring.read)

    async def test(shim: Shim) -> None:
        for scope, status in ((Scope.READ, 403), (Scope.MANAGE, 200)):
            answer = await ask(
                shim.port,
                "POST",
                "/api/generate",
                {"model": MODEL},
                authorization=f"Bearer {scope.value}",
            )
            assert answer.status == status

    served(test, keys=watched)


@pytest.mark.parametrize(
    ("through", "body", "field"),
    [
        (doors.ALL, {"text": "a", "model": MODEL}, "text"),
        (doors.ALL, {"text": "a"}, "text"),
        (doors.ALL, {"prompt": "a", "model": MODEL, "stream": False}, "response"),
        (doors.ALL, {"model": MODEL}, "response"),
        ((ollama.DOOR,), {"prompt": "a", "model": MODEL, "stream": False}, "response"),
        ((generate_door.DOOR,), {"text": "a"}, "text"),
    ],
)
def test_which_door_a_body_at_generate_is_for(
    through: tuple[Door, ...], body: Any, field: str
) -> None:
    answer = answered("POST", "/api/generate", body, through=through)
    assert answer.status == 200
    assert field in answer.json


@pytest.mark.parametrize(
    ("raw", "code"), [(b"{", "bad_message"), (b"{}", "invalid_parameter"), (b"[]", "bad_message")]
)
def test_a_body_of_neither_is_told_by_the_generate_door(raw: bytes, code: str) -> None:
    error: Any = answered("POST", "/api/generate", raw=raw).json["error"]
    assert error["code"] == code


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "application/octet-stream", ""]
)
def test_careless_clients_name_another_type_or_none_and_pages_may_not(kind: str) -> None:
    raw = msgspec.json.encode({"model": MODEL, "prompt": "a"})
    for path in ("/api/generate", "/api/embeddings"):
        assert answered("POST", path, raw=raw, content_type=kind).status == 200
        foreign = answered("POST", path, raw=raw, origin="http://a.example", content_type=kind)
        assert foreign.status == 403
    assert answered("POST", "/api/generate", raw=raw, content_type="text/html").status == 415


def test_what_is_left_out_is_told() -> None:
    body = {"model": MODEL, "messages": HI, "options": {"num_ctx": 1}, "warmth": 1, "shift": True}
    answer = answered("POST", "/api/chat", body)
    assert answer.headers["x-ignored-fields"] == "warmth, options.num_ctx"


def test_what_there_is() -> None:
    told: Any = answered("GET", "/api/tags").json
    assert [one["name"] for one in told["models"]] == [f"{MODEL}:latest"]
    running: Any = answered("GET", "/api/ps").json
    assert running["models"][0]["context_length"] == 4096
    assert answered("GET", "/api/ps", service=FakeService(loaded=False)).json == {"models": []}
    for name in ("model", "name"):
        assert answered("POST", "/api/show", {name: MODEL}).json["capabilities"]
    version: Any = answered("GET", "/api/version").json
    assert version["version"] == ollama.API_VERSION


def test_a_reader_that_goes_away_cancels() -> None:
    service = FakeService(gate=asyncio.Event())

    async def test(shim: Shim) -> None:
        asking = asyncio.create_task(
            ask(shim.port, "POST", "/api/chat", {"model": MODEL, "messages": HI})
        )
        await until(lambda: bool(service.live))
        asking.cancel()
        await until(lambda: service.cancelled == 1)

    served(test, service)


class Many(FakeService):
    """Forty models, one of which cannot be described."""

    asked = most = 0

    async def models(self) -> tuple[ModelInfo, ...]:
        (one,) = await super().models()
        return tuple(dataclasses.replace(one, name=f"m{number}") for number in range(40))

    async def describe(self, model: str) -> ModelCard:
        self.asked += 1
        self.most = max(self.most, self.asked)
        await asyncio.sleep(0)
        self.asked -= 1
        if model == "m7":
            raise BundleInvalid("m7 cannot be read")
        return dataclasses.replace(await super().describe(MODEL), name=model)


def test_a_few_packages_are_asked_for_at_once() -> None:
    service = Many()
    told: Any = answered("GET", "/api/tags", service=service).json["models"]
    assert [one["size"] for one in told] == [0 if n == 7 else 1000 for n in range(40)]
    assert 1 < service.most <= ollama.AT_ONCE
