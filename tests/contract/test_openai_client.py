"""The official `openai` client against the shim, streaming and not, sync and async.

By default the shim stands in front of the fake. NSEDGE_TEST_OPENAI_URL (with /v1 at its end) and
NSEDGE_TEST_OPENAI_MODEL point what holds for any model at a running one instead.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from nsedge.api import Failed, Request, Sink
from nsedge.errors import QueueFull
from nsedge.web.limits import WebLimits
from tests.fake_answers import vector
from tests.fakes import MODEL, FakeService, FakeTicket
from tests.web_server import Shim, running, until

Endpoint = tuple[str, str]
HI: Any = [{"role": "user", "content": "one two three four"}]


class Full(FakeService):
    """Refuses everything, and says to come back soon."""

    asked = 0

    def submit(self, request: Request, sink: Sink) -> FakeTicket:
        self.asked += 1
        sink(Failed.of(request.request_id, QueueFull("full", retry_after_s=0.02)))
        return FakeTicket(self, request, sink, ended=True)


@contextmanager
def shim_in_a_thread(service: FakeService) -> Iterator[Shim]:
    """The synchronous client needs the loop elsewhere."""
    shims: list[Shim] = []
    up, down = threading.Event(), asyncio.Event()

    async def main() -> None:
        async with running(service, WebLimits(keepalive_s=0.05)) as shim:
            shims.append(shim)
            up.set()
            await down.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        assert up.wait(10)
        yield shims[0]
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join(10)
        loop.close()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    """Base address and model."""
    if url := os.environ.get("NSEDGE_TEST_OPENAI_URL"):
        yield url, os.environ["NSEDGE_TEST_OPENAI_MODEL"]
        return
    with shim_in_a_thread(FakeService()) as shim:
        yield f"{shim.url}/v1", MODEL


@pytest.fixture
def client(endpoint: Endpoint) -> Iterator[OpenAI]:
    with OpenAI(base_url=endpoint[0], api_key="none", max_retries=0, timeout=60) as client:
        yield client


def test_models(client: OpenAI, endpoint: Endpoint) -> None:
    assert endpoint[1] in [model.id for model in client.models.list()]
    assert client.models.retrieve(endpoint[1]).owned_by == "nsedge"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("none")
    assert caught.value.code == "model_not_found"


def test_a_chat(client: OpenAI, endpoint: Endpoint) -> None:
    answer = client.chat.completions.create(
        model=endpoint[1], messages=HI, max_tokens=3, temperature=0
    )
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 3
    assert answer._request_id


def test_a_streamed_chat(client: OpenAI, endpoint: Endpoint) -> None:
    asked: Any = {"model": endpoint[1], "messages": HI, "max_tokens": 4, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    *pieces, last, totals = chunks
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[0].choices[0].delta.content == ""
    assert {chunk.choices[0].finish_reason for chunk in pieces} == {None}
    assert last.choices[0].delta.model_dump(exclude_unset=True) == {}
    assert last.choices[0].finish_reason in ("stop", "length")
    assert [chunk.usage for chunk in (*pieces, last)] == [None] * (len(pieces) + 1)
    assert totals.choices == []
    assert totals.usage == whole.usage
    text = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
    assert text == whole.choices[0].message.content


def test_without_include_usage_no_chunk_has_it(client: OpenAI, endpoint: Endpoint) -> None:
    chunks = list(
        client.chat.completions.create(model=endpoint[1], messages=HI, max_tokens=2, stream=True)
    )
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)


def test_the_clients_own_stream_helper(client: OpenAI, endpoint: Endpoint) -> None:
    with client.chat.completions.stream(
        model=endpoint[1], messages=HI, max_completion_tokens=3
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.current_completion_snapshot
    assert {"chunk", "content.delta"} <= kinds
    assert final.choices[0].message.content
    assert final.choices[0].finish_reason in ("stop", "length")


def test_completions(client: OpenAI, endpoint: Endpoint) -> None:
    asked: Any = {"model": endpoint[1], "prompt": "one two three", "max_tokens": 2}
    whole = client.completions.create(**asked, temperature=0)
    chunks = list(client.completions.create(**asked, temperature=0, stream=True))
    assert whole.object == "text_completion"
    assert {chunk.object for chunk in chunks} == {"text_completion"}
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"


def test_log_probabilities_of_a_chat(client: OpenAI, endpoint: Endpoint) -> None:
    asked: Any = {"model": endpoint[1], "messages": HI, "max_tokens": 4, "temperature": 0}
    asked |= {"logprobs": True, "top_logprobs": 3}
    (whole,) = client.chat.completions.create(**asked).choices
    assert whole.logprobs is not None
    content = whole.logprobs.content or []
    assert len(content) == 4
    for token in content:
        assert token.logprob <= 0
        assert [one.logprob for one in token.top_logprobs] == sorted(
            (one.logprob for one in token.top_logprobs), reverse=True
        )
        assert token.top_logprobs[0].token == token.token  # greedy
    text = b"".join(bytes(token.bytes or ()) for token in content).decode()
    assert text == whole.message.content
    streamed = []
    for chunk in client.chat.completions.create(**asked, stream=True):
        if (told := chunk.choices[0].logprobs) is not None:
            streamed += told.content or []
    assert streamed == content


def test_log_probabilities_of_a_completion(client: OpenAI, endpoint: Endpoint) -> None:
    asked: Any = {"model": endpoint[1], "prompt": "one two three", "max_tokens": 3}
    asked |= {"logprobs": 2, "temperature": 0}
    (whole,) = client.completions.create(**asked).choices
    told = whole.logprobs
    assert told is not None
    assert told.tokens is not None
    assert told.text_offset is not None
    assert told.token_logprobs is not None
    assert told.top_logprobs is not None
    assert "".join(told.tokens) == whole.text
    ends = [*told.text_offset[1:], len(whole.text)]
    for token, begin, end in zip(told.tokens, told.text_offset, ends, strict=True):
        assert whole.text[begin:end] == token
    for token, logprob, top in zip(
        told.tokens, told.token_logprobs, told.top_logprobs, strict=True
    ):
        assert len(top) == 2
        assert top[token] == logprob == max(top.values())


def test_choices_of_a_chat(client: OpenAI, endpoint: Endpoint) -> None:
    asked: Any = {"model": endpoint[1], "messages": HI, "max_tokens": 3, "n": 3, "seed": 7}
    whole = client.chat.completions.create(**asked)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 9
    texts = dict.fromkeys(range(3), "")
    ends = dict.fromkeys(range(3), "")
    stream = client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends[choice.index] += choice.finish_reason or ""
        usage = chunk.usage
    assert [*texts.values()] == [choice.message.content for choice in whole.choices]
    assert [*ends.values()] == ["length"] * 3
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, 9)


def test_the_best_of_several_completions(client: OpenAI, endpoint: Endpoint) -> None:
    asked: Any = {"model": endpoint[1], "prompt": "one two three", "max_tokens": 3, "seed": 7}
    every = client.completions.create(**asked, n=4, logprobs=0)
    chosen = client.completions.create(**asked, n=2, best_of=4, logprobs=0)

    def mean(choice: Any) -> float:
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    means = sorted(map(mean, every.choices), reverse=True)
    assert [mean(choice) for choice in chosen.choices] == pytest.approx(means[:2])
    assert chosen.usage == every.usage
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**asked, best_of=2, stream=True)
    assert caught.value.param == "best_of"


def test_a_prompt_is_echoed_and_scored(client: OpenAI, endpoint: Endpoint) -> None:
    prompt = "one two three"
    asked: Any = {"model": endpoint[1], "prompt": prompt, "echo": True, "temperature": 0}
    scored = client.completions.create(**asked, max_tokens=0, logprobs=1)
    (choice,) = scored.choices
    assert (choice.text, choice.finish_reason) == (prompt, "length")
    assert scored.usage is not None
    assert scored.usage.completion_tokens == 0
    told = choice.logprobs
    assert told is not None
    assert told.tokens is not None
    assert told.text_offset is not None
    assert told.token_logprobs is not None
    assert "".join(told.tokens) == prompt
    assert told.text_offset[0] == 0
    assert told.token_logprobs[0] is None
    assert all(logprob is not None for logprob in told.token_logprobs[1:])
    (whole,) = client.completions.create(**asked, max_tokens=2, logprobs=1).choices
    assert whole.text.startswith(prompt)
    assert whole.logprobs is not None
    assert (whole.logprobs.tokens or [])[: len(told.tokens)] == told.tokens
    streamed = list(client.completions.create(**asked, max_tokens=2, logprobs=1, stream=True))
    assert "".join(chunk.choices[0].text for chunk in streamed) == whole.text


def test_extensions_travel_in_extra_body(client: OpenAI, endpoint: Endpoint) -> None:
    extra = {"top_k": 5, "min_p": 0.01, "repetition_penalty": 1.1, "ignore_eos": True}
    answer = client.chat.completions.create(
        model=endpoint[1], messages=HI, max_tokens=2, seed=1, n=2, extra_body=extra
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


def test_refusals_are_the_clients_own_errors(client: OpenAI, endpoint: Endpoint) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="none", messages=HI)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=endpoint[1], messages=HI, temperature=99)
    assert (wrong.value.type, wrong.value.param) == ("invalid_request_error", "temperature")
    functions: Any = [{"name": "f"}]
    with pytest.raises(openai.BadRequestError, match="tools is") as legacy:
        client.chat.completions.create(model=endpoint[1], messages=HI, functions=functions)
    assert legacy.value.param == "functions"


def test_a_full_queue_is_retried_as_told() -> None:
    service = Full()
    with (
        shim_in_a_thread(service) as shim,
        OpenAI(base_url=f"{shim.url}/v1", api_key="none", max_retries=1, timeout=60) as client,
    ):
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model=MODEL, messages=HI)
        assert caught.value.response.headers["retry-after-ms"] == "20"
        assert caught.value.request_id
        assert service.asked == 2


def test_a_failure_in_mid_stream_raises() -> None:
    service = FakeService(gate=asyncio.Event(), fail_after=0)
    with (
        shim_in_a_thread(service) as shim,
        OpenAI(base_url=f"{shim.url}/v1", api_key="none", timeout=60) as client,
    ):
        stream = client.chat.completions.create(model=MODEL, messages=HI, stream=True)
        assert next(stream).choices[0].delta.role == "assistant"
        assert service.gate is not None
        shim.task.get_loop().call_soon_threadsafe(service.gate.set)
        with pytest.raises(openai.APIError, match="the fake broke off as told") as caught:
            list(stream)
        assert caught.value.code == "internal"


def test_async_streams_side_by_side_and_a_closed_one_is_cancelled() -> None:
    async def say(client: AsyncOpenAI, text: str) -> str:
        messages: Any = [{"role": "user", "content": text}]
        stream = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def main() -> None:
        service = FakeService()
        async with (
            running(service) as shim,
            AsyncOpenAI(base_url=f"{shim.url}/v1", api_key="none", max_retries=0) as client,
        ):
            texts = [f"this is number {number}" for number in range(16)]
            assert await asyncio.gather(*(say(client, text) for text in texts)) == texts
            service.gate = asyncio.Event()
            stream = await client.chat.completions.create(model=MODEL, messages=HI, stream=True)
            await anext(aiter(stream))
            assert len(service.live) == 1
            await stream.close()
            await until(lambda: service.cancelled == 1)
            assert not service.live

    asyncio.run(asyncio.wait_for(main(), 20))


def test_vectors_come_as_the_client_asks_for_them() -> None:
    with shim_in_a_thread(FakeService()) as shim:
        client = OpenAI(base_url=f"http://127.0.0.1:{shim.port}/v1", api_key="none")
        texts = ["one", "two words"]
        by_base64 = client.embeddings.create(model=MODEL, input=texts)
        by_numbers = client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    wanted = [np.frombuffer(vector(text), "<f4").tolist() for text in texts]
    assert [one.embedding for one in by_base64.data] == wanted
    assert [one.embedding for one in by_numbers.data] == wanted
    assert [one.index for one in by_base64.data] == [0, 1]
    assert by_base64.usage.prompt_tokens == by_base64.usage.total_tokens > 0
