"""The daemon end to end: the same requests through the bare engine, ZeroMQ and SSE, interleaved.

Two loads. Closed: so many streams at once, from the first submission to the last token; the share
of the bare engine's tokens/s that reaches the clients of each door. Open: requests arrive as a
Poisson process whatever the daemon does; time to first token and between tokens.

    python -m bench.serve --bundle DIR [--streams 16] [--rate 2] [--requests 40] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np

from bench.bare import BareEngine
from bench.daemon import Daemon, daemon
from bench.report import Noise, emit, parser, percentiles, say
from bench.workload import prompts
from nsedge.api import Delta, Failed, Finished, Sampling
from nsedge.errors import of_code
from nsedge.ipc.client import AsyncClient


@dataclass
class Trace:
    """When a client saw what, in seconds of the monotonic clock."""

    sent_s: float
    pieces_s: list[float] = field(default_factory=list)
    tokens: int = 0

    @property
    def first_s(self) -> float:
        """Time to first token."""
        return self.pieces_s[0] - self.sent_s

    @property
    def gaps_s(self) -> list[float]:
        """Between one piece and the next."""
        return list(np.diff(self.pieces_s))


Ask = Callable[[str], Awaitable[Trace]]


class ZmqDoor:
    """Asks over ZeroMQ, every stream on one connection."""

    def __init__(self, client: AsyncClient, model: str, sampling: Sampling) -> None:
        self._client, self._model, self._sampling = client, model, sampling

    async def ask(self, prompt: str) -> Trace:
        trace = Trace(time.perf_counter())
        async with self._client.generate(self._model, prompt, sampling=self._sampling) as events:
            async for event in events:
                if isinstance(event, Delta):
                    trace.pieces_s.append(time.perf_counter())
                elif isinstance(event, Finished):
                    trace.tokens = event.usage.completion_tokens
                elif isinstance(event, Failed):
                    raise of_code(event.code)(event.message)
        return trace


class SseDoor:
    """Asks the OpenAI completions route over SSE, a connection a stream."""

    def __init__(self, session: aiohttp.ClientSession, door: Daemon, sampling: Sampling) -> None:
        self._session, self._url = session, f"{door.url}/v1/completions"
        self._body = {
            "model": door.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
            "ignore_eos": True,
        }

    async def ask(self, prompt: str) -> Trace:
        trace = Trace(time.perf_counter())
        body = {**self._body, "prompt": prompt}
        async with self._session.post(self._url, json=body) as response:
            response.raise_for_status()
            async for line in _data_lines(response.content):
                if b'"usage":{' in line:
                    trace.tokens = json.loads(line)["usage"]["completion_tokens"]
                elif b'"text":"' in line and b'"text":""' not in line:
                    trace.pieces_s.append(time.perf_counter())
        return trace


async def _data_lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    async for line in stream:
        if line.startswith(b"data: {"):
            yield line[6:]


async def closed(ask: Ask, texts: Sequence[str]) -> tuple[float, list[Trace]]:
    """All at once: tokens/s from the first submission to the last end, and the traces."""
    began = time.perf_counter()
    traces = await asyncio.gather(*(ask(text) for text in texts))
    elapsed_s = time.perf_counter() - began
    return sum(trace.tokens for trace in traces) / elapsed_s, list(traces)


async def opened(ask: Ask, texts: Sequence[str], rate: float) -> tuple[float, list[Trace]]:
    """Poisson arrivals at `rate` a second, from a fixed seed."""
    gaps = np.random.default_rng(7).exponential(1 / rate, len(texts))
    began = time.perf_counter()

    async def later(text: str, at_s: float) -> Trace:
        await asyncio.sleep(max(0.0, began + at_s - time.perf_counter()))
        return await ask(text)

    traces = await asyncio.gather(
        *(later(text, at) for text, at in zip(texts, np.cumsum(gaps), strict=True))
    )
    elapsed_s = time.perf_counter() - began
    return sum(trace.tokens for trace in traces) / elapsed_s, list(traces)


def summary(rates: list[float], traces: list[Trace]) -> dict[str, Any]:
    """Medians over rounds, percentiles over everything."""
    return {
        "tokens_per_s": statistics.median(rates),
        "tokens_per_s_rounds": rates,
        "first_token_s": percentiles(trace.first_s for trace in traces),
        "between_s": percentiles(gap for trace in traces for gap in trace.gaps_s),
    }


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Closed rounds interleaved, then the open load on each door."""
    texts = prompts(
        options.bundle,
        count=max(options.streams, options.requests),
        tokens=options.prompt_tokens,
    )
    sampling = Sampling(temperature=0.0, max_tokens=options.new_tokens, ignore_eos=True)
    bare = BareEngine(options.bundle, slots=options.streams, sampling=sampling)
    async with (
        daemon(options.bundle, slots=options.streams) as door,
        AsyncClient(door.endpoint) as client,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        doors: dict[str, Ask] = {
            "zeromq": ZmqDoor(client, door.model, sampling).ask,
            "sse": SseDoor(session, door, sampling).ask,
        }
        rates: dict[str, list[float]] = defaultdict(list)
        traces: dict[str, list[Trace]] = defaultdict(list)
        noise = []
        crowd = texts[: options.streams]
        for number in range(options.rounds + 1):  # the first warms up
            watch = Noise()
            bare_rate = await asyncio.to_thread(bare.tokens_per_s, crowd)
            for name, ask in doors.items():
                rate, seen = await closed(ask, crowd)
                if number:
                    rates[name].append(rate)
                    traces[name] += seen
            if number:
                rates["bare"].append(bare_rate)
                noise.append(watch.others())
        result: dict[str, Any] = {
            "bare_tokens_per_s": statistics.median(rates["bare"]),
            "bare_tokens_per_s_rounds": rates["bare"],
            "closed": {name: summary(rates[name], traces[name]) for name in doors},
            "share_of_bare": {
                name: statistics.median(
                    mine / engine for mine, engine in zip(rates[name], rates["bare"], strict=True)
                )
                for name in doors
            },
            "others_cores": noise,
            "open": {},
        }
        for name, ask in doors.items():
            rate, seen = await opened(ask, texts[: options.requests], options.rate)
            result["open"][name] = summary([rate], seen)
    bare.close()
    return result


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--streams", type=int, default=16)
    arguments.add_argument("--prompt-tokens", type=int, default=100)
    arguments.add_argument("--new-tokens", type=int, default=64)
    arguments.add_argument("--rate", type=float, default=1.0, help="arrivals a second, open load")
    arguments.add_argument("--requests", type=int, default=30, help="of the open load")
    options = arguments.parse_args()
    result = asyncio.run(measure(options))
    say(f"bare engine, {options.streams} streams: {result['bare_tokens_per_s']:.1f} tokens/s")
    for load in ("closed", "open"):
        for name, figures in result[load].items():
            first, between = figures["first_token_s"], figures["between_s"]
            say(
                f"{load:6} {name:6} {figures['tokens_per_s']:8.1f} tokens/s"
                f"  first p50/p95/p99 {_ms(first)} ms  between {_ms(between)} ms"
            )
    for name, share in result["share_of_bare"].items():
        say(f"share of the bare engine that reaches {name} clients: {share:.1%}")
    described = {key: str(value) for key, value in vars(options).items()}
    emit({"bench": "serve", "options": described, **result}, options.json)


def _ms(figures: dict[str, float]) -> str:
    return "/".join(f"{figures[p] * 1e3:.1f}" for p in ("p50", "p95", "p99"))


if __name__ == "__main__":
    main()
