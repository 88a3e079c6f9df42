"""The calls that Open WebUI's backend makes of an OpenAI server, against the shim: its models,
chats with usage and tools, task prompts, responses with the items it keeps, vectors, and errors."""

from __future__ import annotations

import json
from typing import Any

from tests.contract.open_webui import ASKED, TOOLS, Backend, play
from tests.fake_answers import DIMENSIONS
from tests.fakes import MODEL


def test_the_models_of_an_openai_server() -> None:
    async def scene(asking: Backend) -> None:
        found = await asking.get("/v1/models")
        assert [one["id"] for one in found["data"]] == [MODEL]
        assert all(one.get("name", "") is not None for one in found["data"])

    play(scene)


def test_a_chat_with_usage_and_tools() -> None:
    async def scene(asking: Backend) -> None:
        turns: list[dict[str, Any]] = [{"role": "user", "content": ASKED}]
        payload: dict[str, Any] = {
            "model": MODEL,
            "messages": turns,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.8,
            "top_p": 0.9,
            "max_tokens": 64,
            "frequency_penalty": 0.1,
            "presence_penalty": 0.1,
            "seed": 42,
            "stop": ["END"],
            "logit_bias": {"5": -10},
            "tools": TOOLS,
        }
        chunks = await asking.events(payload)
        deltas = [one["choices"][0]["delta"] for one in chunks if one["choices"]]
        assert [one["reasoning_content"] for one in deltas if one.get("reasoning_content")] == [
            "Look it up."
        ]
        calls = [call for one in deltas for call in one.get("tool_calls", ())]
        assert {call["index"] for call in calls} == {0}
        arguments = "".join(call["function"].get("arguments", "") for call in calls)
        (label,) = (call["id"] for call in calls if call.get("id"))
        assert json.loads(arguments) == {"city": "Oslo"}
        assert chunks[-1]["usage"]["total_tokens"] > 0
        function = {"name": "weather", "arguments": arguments}
        call = {"id": label, "type": "function", "index": 0, "function": function}
        turns += [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": label, "content": "cloudy, 7"},
        ]
        answer = await asking.post("/v1/chat/completions", payload | {"stream": False})
        assert answer["choices"][0]["message"]["content"] == "Rain."

    play(scene)


def test_prompts_for_titles_and_tags() -> None:
    async def scene(asking: Backend) -> None:
        for most in ("max_tokens", "max_completion_tokens"):
            payload = {
                "model": MODEL,
                "messages": [{"role": "user", "content": "a b"}],
                "stream": False,
                most: 1000,
            }
            answer = await asking.post("/v1/chat/completions", payload)
            assert answer["choices"][0]["message"]["content"] == "a b"
            assert asking.task.sampling.max_tokens == 1000

    play(scene)


def test_responses_go_on_from_their_own_items() -> None:
    async def scene(asking: Backend) -> None:
        tools = [{"type": "function", **TOOLS[0]["function"]}]  # type: ignore[dict-item]
        asks = [{"type": "message", "role": "user", "content": [text(ASKED)]}]
        payload: dict[str, Any] = {
            "model": MODEL,
            "input": asks,
            "instructions": "Be short.",
            "tools": tools,
            "stream": True,
            "max_output_tokens": 64,
            "temperature": 0.8,
        }
        events = await asking.events(payload, "/v1/responses")
        assert [one["type"] for one in events][-1] == "response.completed"
        output = events[-1]["response"]["output"]
        (call,) = (item for item in output if item["type"] == "function_call")
        told = {"type": "function_call_output", "call_id": call["call_id"]}
        # What it keeps of an item: a thought whole, of a call what the API knows.
        kept = [
            {name: item[name] for name in ("type", "call_id", "name", "arguments", "id")}
            if item["type"] == "function_call"
            else item
            for item in output
        ]
        again = [*asks, *kept, told | {"output": [text("cloudy, 7")]}]
        answer = await asking.post("/v1/responses", payload | {"input": again, "stream": False})
        said = [item for item in answer["output"] if item["type"] == "message"]
        assert said[0]["content"][0]["text"] == "Rain."

    play(scene)


def text(content: str) -> dict[str, str]:
    return {"type": "input_text", "text": content}


def test_vectors_of_an_openai_server() -> None:
    async def scene(asking: Backend) -> None:
        found = await asking.post("/v1/embeddings", {"input": ["one", "two"], "model": MODEL})
        assert [len(one["embedding"]) for one in found["data"]] == [DIMENSIONS] * 2

    play(scene)


def test_errors_of_an_openai_server() -> None:
    async def scene(asking: Backend) -> None:
        turns = [{"role": "user", "content": "a"}]
        payload = {"model": "x", "messages": turns, "stream": True}
        status, error = await asking.refused("POST", "/v1/chat/completions", payload)
        assert (status, error["code"]) == (404, "model_not_found")

    play(scene)
