"""Streams for as long as wanted, cancelled at random, and what has changed by the end.

    python -m bench.soak --bundle DIR [--minutes 30] [--streams 16] [--warm-up 0.2] [--seed 1]

Each stream asks over ZeroMQ or over SSE for texts of many lengths, one after the other; a third of
the requests are given up somewhere on the way, a few at once. Demanded: every request ends in one
terminal event, nothing runs or holds cache in the end, core and shim grow by less than 2 % after
the warm-up, and neither the time to the first token nor that between tokens grows by more than a
fifth.
Ends with status 1 where that is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from bench.daemon import daemon
from bench.doors import open_session
from bench.fuzz import Holdings, left_behind
from bench.report import Noise, chosen_of, emit, parser, percentiles, say
from nsedge.api import (
    Delta,
    Event,
    Finished,
    Generate,
    Request,
    Sampling,
    is_terminal,
)
from nsedge.ipc.client import AsyncClient

WORDS = "the harbour lamp was lit before dusk and three boats came in with nets of silver fish"
CONTEXT_TOKENS = 512
CANCELLED = 0.33
"""The share of requests that are given up."""
SSE = 0.4
"""The share of requests that come over HTTP."""
GROWTH = 0.02
DRIFT = 0.2
SAMPLE_S = 5.0
END_S = 60.0
"""Time for the last requests to end."""


@dataclass(frozen=True)
class Wish:
    """The next request, and after how many pieces it is given up; None is never."""

    text: str
    tokens: int
    pieces: int | None
    sse: bool

    @classmethod
    def draw(cls, chance: random.Random) -> Wish:
        """One of many lengths, which begins like few others."""
        words = WORDS.split()
        text = " ".join(chance.choices(words, k=chance.choice((4, 16, 64, 200))))
        tokens = chance.choice((4, 16, 64, 128))
        given_up = chance.random() < CANCELLED
        pieces = chance.randrange(tokens) if given_up else None
        return cls(text, tokens, pieces, chance.random() < SSE)


@dataclass
class Tally:
    """Counts of what the soak has seen."""

    requests: int = 0
    cancels: int = 0
    unqueued: int = 0
    """Given up before any engine saw them."""
    ends: Counter[str] = field(default_factory=Counter)
    terminals: Counter[int] = field(default_factory=Counter)
    """How many requests ended with so many terminal events: all with one."""
    first_s: list[tuple[float, float]] = field(default_factory=list)
    """When a request's first piece came, and how long that took, in seconds."""
    between_s: list[tuple[float, float]] = field(default_factory=list)

    def ended(self, kinds: list[str]) -> None:
        """A request came to its end, with these terminal events."""
        self.terminals[len(kinds)] += 1
        self.ends.update(kinds)


class Pieces:
    """Notes when the pieces of one answer come."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._last_s = time.perf_counter()
        self.count = 0

    def came(self) -> None:
        """Another piece."""
        now_s = time.perf_counter()
        times = self._tally.between_s if self.count else self._tally.first_s
        times.append((now_s, now_s - self._last_s))
        self._last_s = now_s
        self.count += 1


async def over_zeromq(client: AsyncClient, model: str, wish: Wish, tally: Tally) -> None:
    """One request; what is cancelled ends in a terminal event as any other."""
    pieces, kinds = Pieces(tally), list[str]()
    ended = asyncio.Event()

    def sink(event: Event) -> None:
        ticket.took(event)
        if isinstance(event, Delta):
            pieces.came()
            if pieces.count == wish.pieces:
                ticket.cancel()
        elif is_terminal(event):
            kinds.append(event.reason if isinstance(event, Finished) else "failed")
            tally.unqueued += isinstance(event, Finished) and event.usage.prompt_tokens == 0
            ended.set()

    request = Request(
        request_id=client.new_id(),
        model=model,
        task=Generate(
            text=wish.text,
            sampling=Sampling(temperature=0.8, max_tokens=wish.tokens, ignore_eos=True),
        ),
    )
    ticket = client.submit(request, sink)
    if wish.pieces == 0:
        ticket.cancel()
    await asyncio.wait_for(ended.wait(), END_S)
    await asyncio.sleep(0)  # a second terminal event would come now
    tally.ended(kinds)


async def over_sse(
    session: aiohttp.ClientSession, url: str, model: str, wish: Wish, tally: Tally
) -> None:
    """One request; who closes the connection hears no end, and the core's counters tell of it."""
    body = {"model": model, "prompt": wish.text, "stream": True, "max_tokens": wish.tokens}
    pieces, ends = Pieces(tally), 0
    async with session.post(f"{url}/v1/completions", json={**body, "ignore_eos": True}) as answer:
        answer.raise_for_status()
        if wish.pieces == 0:
            return
        async for line in answer.content:
            if line.startswith(b'data: {"error"'):
                tally.ends["error"] += 1
            elif line.startswith(b"data: [DONE]"):
                ends += 1
            elif line.startswith(b"data: "):
                pieces.came()
                if pieces.count == wish.pieces:
                    return
    tally.terminals[ends] += 1
    tally.ends["done"] += ends


@dataclass
class Samples:
    """Memory over time: of the core and of the shim, in bytes, and when, in seconds.

    A cache takes memory as its rows are first written, within what was reserved for it, and keeps
    it: the core grows until every row was once as long as rows become.
    """

    at_s: list[float] = field(default_factory=list)
    held: list[tuple[Holdings, ...]] = field(default_factory=list)
    cache_bytes: list[int] = field(default_factory=list)
    """The written pages of the core's caches, at each look."""

    async def take(self, pids: tuple[int, ...], client: AsyncClient, model: str) -> None:
        """Take one now and then, until cancelled."""
        while True:
            memory = (await client.stats()).models[model].memory
            self.at_s.append(time.perf_counter())
            self.cache_bytes.append(0 if memory is None else memory.kv_bytes)
            self.held.append(tuple(map(Holdings.of, pids)))
            await asyncio.sleep(SAMPLE_S)

    def growth(self, since_s: float) -> dict[str, float]:
        """By what share each grew: the last fifth of the samples after `since_s` against the first,
        medians."""
        core, shim = zip(*[[one.rss_bytes for one in held] for held in self.held], strict=True)
        beside = [rss - cache for rss, cache in zip(core, self.cache_bytes, strict=True)]
        series = {"core": core, "core beside the cache": beside, "shim": shim}
        return {name: self._growth(sizes, since_s) for name, sizes in series.items()}

    def _growth(self, every: Sequence[int], since_s: float) -> float:
        sizes = [size for at_s, size in zip(self.at_s, every, strict=True) if at_s >= since_s]
        fifth = max(1, len(sizes) // 5)
        return statistics.median(sizes[-fifth:]) / statistics.median(sizes[:fifth]) - 1


def drift(times: list[tuple[float, float]], since_s: float) -> float:
    """By what share the median of the last third differs from that of the first."""
    values = [value for at_s, value in times if at_s >= since_s]
    third = max(1, len(values) // 3)
    return statistics.median(values[-third:]) / statistics.median(values[:third]) - 1


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All streams until the time is over, then what is left."""
    tally, samples, noise = Tally(), Samples(), Noise()
    seconds = options.minutes * 60
    async with (
        daemon(options.bundle, slots=options.streams, context_tokens=CONTEXT_TOKENS) as door,
        AsyncClient(door.endpoint) as client,
        open_session() as session,
    ):
        began_s = time.perf_counter()

        async def stream(number: int) -> None:
            chance = random.Random(options.seed * 1000 + number)
            while time.perf_counter() - began_s < seconds:
                wish = Wish.draw(chance)
                tally.requests += 1
                tally.cancels += wish.pieces is not None
                if wish.sse:
                    await over_sse(session, door.url, door.model, wish, tally)
                else:
                    await over_zeromq(client, door.model, wish, tally)

        sampling = asyncio.create_task(samples.take(door.pids, client, door.model))
        try:
            await asyncio.gather(*map(stream, range(options.streams)))
        finally:
            sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sampling
        behind = await left_behind(client)
        stats = (await client.stats()).models[door.model]
    since_s = began_s + options.warm_up * seconds
    return {
        "requests": tally.requests,
        "cancels": tally.cancels,
        "ends": dict(tally.ends),
        "finished_at_core": stats.finished,
        "lost": tally.requests - tally.unqueued - sum(stats.finished.values()),
        "terminal_events": {str(count): many for count, many in tally.terminals.items()},
        "left_behind": behind,
        "kv_tokens_left": stats.kv_tokens_used,
        "tokens_per_s": stats.completion_tokens / seconds,
        "rss_growth": samples.growth(since_s),
        "cache_bytes": samples.cache_bytes,
        "rss_bytes": [[one.rss_bytes for one in held] for held in samples.held],
        "descriptors": [[one.descriptors for one in held] for held in samples.held],
        "first_token_s": percentiles(value for _, value in tally.first_s),
        "between_s": percentiles(value for _, value in tally.between_s),
        "drift": {
            "first_token": drift(tally.first_s, since_s),
            "between": drift(tally.between_s, since_s),
        },
        "others_cores": noise.others(),
    }


DEMANDS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "every request ended at the core": lambda r: r["lost"] == 0,
    "one terminal event each": lambda r: set(r["terminal_events"]) == {"1"},
    "nothing runs or waits": lambda r: r["left_behind"] == 0,
    "no cache is held": lambda r: r["kv_tokens_left"] == 0,
    "nothing failed": lambda r: set(r["finished_at_core"]) <= {"stop", "length", "cancelled"},
    "memory stays": lambda r: all(grown < GROWTH for grown in r["rss_growth"].values()),
    "latency stays": lambda r: all(share < DRIFT for share in r["drift"].values()),
}


def main() -> int:
    """Soak, and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=30.0)
    arguments.add_argument("--streams", type=int, default=16)
    arguments.add_argument("--warm-up", type=float, default=0.2, help="share of the time, 0 to 1")
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    result = asyncio.run(measure(options))
    met = {name: bool(demand(result)) for name, demand in DEMANDS.items()}
    first, between = result["first_token_s"], result["between_s"]
    say(
        f"{result['requests']} requests, {result['cancels']} given up, {result['lost']} lost, "
        f"{result['left_behind']} left behind; {result['tokens_per_s']:.0f} tokens/s; "
        f"first token p50 {first['p50'] * 1e3:.0f} ms, between p50 {between['p50'] * 1e3:.0f} ms, "
        f"drift {_percent(result['drift'])}; RSS growth {_percent(result['rss_growth'])}"
    )
    for name, holds in met.items():
        say(f"{'met   ' if holds else 'NOT MET'} {name}")
    described = chosen_of(options)
    emit({"bench": "soak", "options": described, "met": met, **result}, options.json)
    return 0 if all(met.values()) else 1


def _percent(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:+.1%}" for name, share in shares.items())


if __name__ == "__main__":
    sys.exit(main())
