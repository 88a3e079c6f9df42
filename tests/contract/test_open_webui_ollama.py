"""The calls that Open WebUI's backend makes of an Ollama server, against the shim: the same routes
and bodies, and what it reads of the answers.

The version and its numbers; the models listed, each looked up by the name it is listed by, with
`:latest` put behind one without a tag; those in memory, matched with these by name; when they
leave, as a date; what a model is; chats with options, tools and formats; prompts with a suffix;
vectors in both ways; loading and letting go; and what cannot be had, with the server's own words.
"""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

import pytest

from nsedge.api import Chat, Embed, Generate, Role, Sampling
from nsedge.security import keyring
from nsedge.security.keyring import ApiKey, KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from tests.contract.open_webui import ASKED, TOOLS, Backend, play
from tests.fake_answers import DIMENSIONS
from tests.fakes import MODEL

LISTED = f"{MODEL}:latest"
OPTIONS: dict[str, Any] = {
    "temperature": 0.8,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.05,
    "seed": 42,
    "stop": ["END"],
    "mirostat": 0,
    "mirostat_eta": 0.1,
    "mirostat_tau": 5.0,
    "num_ctx": 2048,
    "num_batch": 512,
    "num_keep": 24,
    "num_predict": 3,
    "repeat_last_n": 64,
    "repeat_penalty": 1.1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
    "num_gpu": 1,
    "num_thread": 2,
    "use_mmap": True,
    "use_mlock": False,
}
"""All that its settings of a model can send."""


def test_the_version_is_numbers() -> None:
    async def scene(asking: Backend) -> None:
        version = (await asking.get("/api/version"))["version"]
        assert all(int(part) >= 0 for part in re.sub(r"^v|-.*", "", version).split("."))

    play(scene)


def test_models_are_found_by_the_names_they_are_listed_by() -> None:
    async def scene(asking: Backend) -> None:
        listed = {one["model"]: one for one in (await asking.get("/api/tags"))["models"]}
        assert list(listed) == [LISTED]
        for name in (MODEL, LISTED):  # a tag is put behind a name that has none
            assert (name if ":" in name else f"{name}:latest") in listed
        leaves = {one["name"]: one["expires_at"] for one in (await asking.get("/api/ps"))["models"]}
        for one in listed.values():
            moment = datetime.datetime.fromisoformat(leaves[one["name"]])
            assert int(moment.timestamp()) > 0
            assert {"size", "digest", "modified_at", "details"} <= one.keys()
        shown = await asking.post("/api/show", {"model": LISTED, "name": LISTED})
        assert "completion" in shown["capabilities"]

    play(scene)


def usage_of(end: dict[str, Any]) -> dict[str, Any]:
    """What it makes of the figures of an answer's end."""
    read, written = int(end["prompt_eval_count"]), int(end["eval_count"])
    return {
        "total_tokens": read + written,
        "response_token/s": written / max(end["eval_duration"], 1) * 1e9,
        "prompt_token/s": read / max(end["prompt_eval_duration"], 1) * 1e9,
        "approximate_total": f"{end['total_duration'] // 1_000_000_000}s",
        "load_duration": end["load_duration"],
    }


def test_a_chat_with_all_its_settings() -> None:
    async def scene(asking: Backend) -> None:
        payload = {
            "model": LISTED,
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": "a b c d"},
            ],
            "options": OPTIONS,
            "keep_alive": "5m",
            "stream": True,
            "num_predict": 3,  # it stands beside the options, too
        }
        *pieces, end = map(json.loads, await asking.lines("/api/chat", payload))
        assert "".join(one["message"]["content"] for one in pieces) == "a b c"
        assert {one["model"] for one in pieces} == {LISTED}
        assert not any(one["done"] for one in pieces)
        assert end["done"]
        assert usage_of(end)["total_tokens"] > 0
        sampling: Sampling = asking.task.sampling
        assert (sampling.temperature, sampling.top_p, sampling.min_p) == (0.8, 0.9, 0.05)
        assert (sampling.seed, sampling.stop, sampling.max_tokens) == (42, ("END",), 3)
        assert (sampling.repetition_penalty, sampling.penalty_last_n) == (1.1, 64)
        whole = await asking.post("/api/chat", payload | {"stream": False})
        assert whole["message"]["content"] == "a b c"
        assert usage_of(whole)["total_tokens"] == usage_of(end)["total_tokens"]

    play(scene)


def test_a_call_and_its_result() -> None:
    async def scene(asking: Backend) -> None:
        turns: list[dict[str, Any]] = [{"role": "user", "content": ASKED}]
        payload = {"model": LISTED, "messages": turns, "stream": True, "tools": TOOLS}
        found = list(map(json.loads, await asking.lines("/api/chat", payload | {"think": True})))
        assert [one["message"]["thinking"] for one in found if one["message"].get("thinking")] == [
            "Look it up."
        ]
        (call,) = (call for one in found for call in one["message"].get("tool_calls", ()))
        assert call["function"] == {"name": "weather", "arguments": {"city": "Oslo"}}
        assert [tool.name for tool in asking.task.tools] == ["weather"]
        turns += [
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"index": 0, "id": call.get("id"), "function": dict(call["function"])}
                ],
            },
            {"role": "tool", "content": "cloudy, 7", "tool_call_id": call.get("id")},
        ]
        answer = await asking.post("/api/chat", payload | {"stream": False})
        assert answer["message"]["content"] == "Rain."
        task: Chat = asking.task
        assert task.messages[-1].role is Role.TOOL
        assert task.messages[-1].tool_call_id == task.messages[-2].tool_calls[0].id

    play(scene)


@pytest.mark.parametrize("wanted", ["json", {"type": "object", "properties": {}}])
def test_a_format(wanted: Any) -> None:
    async def scene(asking: Backend) -> None:
        turns = [{"role": "user", "content": "a"}]
        payload = {"model": LISTED, "messages": turns, "stream": False, "format": wanted}
        await asking.post("/api/chat", payload)
        assert asking.task.constraint is not None

    play(scene)


def test_prompts() -> None:
    async def scene(asking: Backend) -> None:
        payload: dict[str, Any] = {"model": LISTED, "prompt": "a b", "stream": True}
        *pieces, end = map(json.loads, await asking.lines("/api/generate", payload))
        assert "".join(one["response"] for one in pieces) == "a b"
        assert end["done_reason"] == "stop"
        await asking.lines("/api/generate", payload | {"suffix": "c", "raw": True})
        task: Generate = asking.task
        assert (task.text, task.suffix) == ("a b", "c")

    play(scene)


def test_vectors() -> None:
    async def scene(asking: Backend) -> None:
        texts = ["one", "two"]
        many = await asking.post("/api/embed", {"input": texts, "model": LISTED})
        assert [len(one) for one in many["embeddings"]] == [DIMENSIONS] * 2
        task: Embed = asking.task
        assert (task.inputs, task.truncate) == (("one", "two"), True)
        # One converter sends a prompt beside the input.
        both = {"model": LISTED, "input": texts, "prompt": "one\ntwo", "truncate": False}
        assert len((await asking.post("/api/embed", both))["embeddings"]) == 2
        one = await asking.post("/api/embeddings", {"model": LISTED, "prompt": "one"})
        assert len(one["embedding"]) == DIMENSIONS

    play(scene)


def test_a_model_comes_and_goes() -> None:
    async def scene(asking: Backend) -> None:
        gone = {"model": LISTED, "keep_alive": 0, "prompt": ""}
        assert (await asking.post("/api/generate", gone))["done_reason"] == "unload"
        back = {"model": LISTED, "keep_alive": -1, "prompt": ""}
        assert (await asking.post("/api/generate", back))["done_reason"] == "load"

    play(scene)


def test_what_cannot_be_had_is_told_in_words() -> None:
    async def scene(asking: Backend) -> None:
        for method, path, payload in (
            ("POST", "/api/pull", {"model": "m", "insecure": True}),
            ("POST", "/api/push", {"model": "m"}),
            ("POST", "/api/create", {"model": "m", "path": "p"}),
            ("POST", "/api/copy", {"source": "m", "destination": "n"}),
            ("DELETE", "/api/delete", {"model": "m", "name": "m"}),
        ):
            status, error = await asking.refused(method, path, payload)
            assert (status, "nsedge-export" in error) == (404, True), path
        turns = [{"role": "user", "content": "a"}]
        status, error = await asking.refused("POST", "/api/chat", {"model": "x", "messages": turns})
        assert (status, error) == (404, "model 'x' not found")

    play(scene)


def test_a_key_goes_with_every_call(tmp_path: Path) -> None:
    key = ApiKey(name="webui", sha256=keyring.digest_of("secret"), scopes=(Scope.INFER, Scope.READ))
    keyring.write(tmp_path / "keys.json", KeyRing(api=(key,)))

    async def scene(asking: Backend) -> None:
        assert (await asking.get("/api/tags"))["models"]
        assert (await asking.get("/v1/models"))["data"]
        asking.key = ""
        status, error = await asking.refused("GET", "/api/tags", None)
        assert (status, isinstance(error, str)) == (401, True)

    play(scene, keys=WatchedFile(tmp_path / "keys.json", keyring.read), key="secret")
