"""The ways into a server, and what a client sees through them: one client for every server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
import msgspec
import numpy as np

from nsedge.api import Delta, Failed, Finished, Sampling
from nsedge.errors import of_code
from nsedge.ipc.client import AsyncClient


@dataclass
class Trace:
    """When a client saw what, in seconds of the monotonic clock."""

    sent_s: float = 0.0
    pieces_s: list[float] = field(default_factory=list)
    tokens: int = 0
    text: list[str] = field(default_factory=list)

    @property
    def first_s(self) -> float:
        """Time to first token."""
        return self.pieces_s[0] - self.sent_s

    @property
    def gaps_s(self) -> list[float]:
        """Between one piece and the next."""
        return list(np.diff(self.pieces_s))


class Door(Protocol):
    """A way to ask."""

    async def ask(self, prompt: str, tokens: int, trace: Trace) -> Trace:
        """Continue `prompt` by exactly `tokens` tokens, greedily, noting them in `trace`."""


class ZmqDoor:
    """Asks over ZeroMQ, every stream on one connection."""

    def __init__(self, client: AsyncClient, model: str) -> None:
        self._client, self._model = client, model

    async def ask(self, prompt: str, tokens: int, trace: Trace) -> Trace:
        sampling = Sampling(temperature=0.0, max_tokens=tokens, ignore_eos=True)
        trace.sent_s = time.perf_counter()
        async with self._client.generate(self._model, prompt, sampling=sampling) as events:
            async for event in events:
                if isinstance(event, Delta):
                    trace.pieces_s.append(time.perf_counter())
                    trace.text.append(event.text)
                elif isinstance(event, Finished):
                    trace.tokens = event.usage.completion_tokens
                elif isinstance(event, Failed):
                    raise of_code(event.code)(event.message)
        return trace


class _Choice(msgspec.Struct):
    text: str = ""


class _Usage(msgspec.Struct):
    completion_tokens: int


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


_CHUNKS = msgspec.json.Decoder(_Chunk)


class SseDoor:
    """Asks the OpenAI completions route over SSE, a connection a stream."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str) -> None:
        self._session, self._url, self._model = session, f"{url}/v1/completions", model

    async def ask(self, prompt: str, tokens: int, trace: Trace) -> Trace:
        body = {
            "model": self._model,
            "prompt": prompt,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.0,
            "max_tokens": tokens,
            "ignore_eos": True,
        }
        trace.sent_s = time.perf_counter()
        async with self._session.post(self._url, json=body) as response:
            response.raise_for_status()
            async for line in _data_lines(response.content):
                chunk = _CHUNKS.decode(line)
                if text := "".join(choice.text for choice in chunk.choices):
                    trace.pieces_s.append(time.perf_counter())
                    trace.text.append(text)
                if chunk.usage is not None:
                    trace.tokens = chunk.usage.completion_tokens
        return trace


async def _data_lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    async for line in stream:
        if line.startswith(b"data: {"):
            yield line[6:]


def open_session() -> aiohttp.ClientSession:
    """A client session without limits of its own; a connection a request, as servers differ in how
    long they keep one."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None),
    )


async def closed(door: Door, texts: Sequence[str], tokens: int) -> tuple[float, list[Trace]]:
    """All at once: tokens/s from the first submission to the last end, and the traces."""
    began = time.perf_counter()
    traces = await asyncio.gather(*(door.ask(text, tokens, Trace()) for text in texts))
    elapsed_s = time.perf_counter() - began
    return sum(trace.tokens for trace in traces) / elapsed_s, list(traces)


async def opened(
    door: Door, texts: Sequence[str], tokens: int, rate: float
) -> tuple[float, list[Trace]]:
    """Poisson arrivals at `rate` a second, from a fixed seed."""
    gaps = np.random.default_rng(7).exponential(1 / rate, len(texts))
    began = time.perf_counter()

    async def later(text: str, at_s: float) -> Trace:
        await asyncio.sleep(max(0.0, began + at_s - time.perf_counter()))
        return await door.ask(text, tokens, Trace())

    traces = await asyncio.gather(
        *(later(text, at) for text, at in zip(texts, np.cumsum(gaps), strict=True))
    )
    elapsed_s = time.perf_counter() - began
    return sum(trace.tokens for trace in traces) / elapsed_s, list(traces)
