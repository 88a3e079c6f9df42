"""The loads that servers are compared under."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from bench.doors import Door, Trace, closed
from bench.lab import Lab, doors_of, latencies, spread, spreads
from bench.peers.memory import Held, held
from bench.peers.process import program
from bench.peers.servers import SSE, Running, Server
from bench.report import percentiles

CONTEXT = 1024
LONG_CONTEXT = 2048
LONG_TOKENS = 900
NEW_TOKENS = 64
FULL_SLOTS = 16
RUNNING_STREAMS = 4
ARRIVALS = 3
QUIET_S = 1.2
SETTLING_S = 0.2
FOLLOW_UPS = 3
ANSWER_TOKENS = 16
QUESTION_TOKENS = 24

Window = tuple[float, float]
"""From and to, seconds of the performance counter."""


@contextlib.asynccontextmanager
async def started(
    servers: Sequence[Server], *, slots: int, context: int
) -> AsyncIterator[list[tuple[Server, Running]]]:
    """All servers at once; those that nobody asks sleep."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            (server, await stack.enter_async_context(server.start(slots=slots, context=context)))
            for server in servers
        ]


async def streams(lab: Lab, *, count: int, prompt_tokens: int) -> None:
    """`count` streams at once, each of a new prompt: tokens/s, first token, between tokens."""
    title = f"{count} streams, prompts of {prompt_tokens} tokens"
    async with started(lab.servers, slots=count, context=CONTEXT) as running:

        def way(door: Door) -> Callable[[], Awaitable[tuple[float, list[Trace]]]]:
            async def run() -> tuple[float, list[Trace]]:
                texts = lab.writer.prompts(count=count, tokens=prompt_tokens)
                return await closed(door, texts, NEW_TOKENS)

            return run

        doors = doors_of(running)
        rounds = await lab.run(title, {name: way(door) for name, door in doors.items()})
    for name in doors:
        results = rounds.of(name)
        lab.add(
            "streams",
            name,
            rounds,
            streams=count,
            prompt_tokens=prompt_tokens,
            tokens_per_s=spread([rate for rate, _ in results]),
            **latencies([trace for _, traces in results for trace in traces]),
        )


async def share_of_bare(lab: Lab, *, count: int, prompt_tokens: int) -> None:
    """Our daemon beside the same engine with nobody listening."""
    server, engine = lab.servers[0], lab.engines[0]
    arguments = [engine.model, str(count), str(CONTEXT), str(lab.threads)]
    async with (
        started([server], slots=count, context=CONTEXT) as running,
        program(engine.program, arguments, python=engine.python, log=lab.log) as bare,
    ):

        async def alone() -> float:
            texts = lab.writer.prompts(count=count, tokens=prompt_tokens)
            answer = await bare.do("generate", texts=texts, tokens=NEW_TOKENS)
            return float(answer["tokens_per_s"])

        def through(door: Door) -> Callable[[], Awaitable[float]]:
            async def run() -> float:
                texts = lab.writer.prompts(count=count, tokens=prompt_tokens)
                return (await closed(door, texts, NEW_TOKENS))[0]

            return run

        ways = {name: through(door) for name, door in doors_of(running).items()}
        ways[f"{server.name} bare engine"] = alone
        rounds = await lab.run(f"{count} streams and the bare engine", ways)
    for name in ways:
        lab.add(
            "bare", name, rounds, streams=count, prompt_tokens=prompt_tokens,
            tokens_per_s=spread(rounds.of(name)),
        )  # fmt: skip


@dataclass(frozen=True)
class Arrival:
    """A prompt that came: gaps of the running streams while it was read, and in the quiet just
    before and after, when they are as long; and its time to first token."""

    disturbed_s: list[float]
    around_s: list[float]
    first_s: float

    @property
    def stretch(self) -> float:
        """The p99 of gaps meanwhile, in quiet medians."""
        return percentiles(self.disturbed_s)["p99"] / statistics.median(self.around_s)


@dataclass(frozen=True)
class Gaps:
    """Between tokens of running streams: before any long prompt came, around each, and at last.
    Streams grow all the while, and their steps with them."""

    quiet_s: list[float]
    arrivals: list[Arrival]
    after_s: list[float]


async def arrivals(lab: Lab) -> None:
    """Streams that run on while long prompts arrive, one after another."""
    slots = RUNNING_STREAMS + ARRIVALS
    async with started(lab.servers, slots=slots, context=LONG_CONTEXT) as running:

        def way(door: Door) -> Callable[[], Awaitable[Gaps]]:
            return lambda: _disturb(lab, door)

        doors = doors_of(running)
        rounds = await lab.run("long prompts arrive", {n: way(door) for n, door in doors.items()})
    for name in doors:
        gaps = rounds.of(name)
        came = [arrival for one in gaps for arrival in one.arrivals]
        lab.add(
            "arrivals",
            name,
            rounds,
            prompt_tokens=LONG_TOKENS,
            quiet_s=percentiles(chain.from_iterable(g.quiet_s for g in gaps)),
            disturbed_s=percentiles(gap for a in came for gap in a.disturbed_s),
            after_s=percentiles(chain.from_iterable(g.after_s for g in gaps)),
            first_token_s=percentiles(a.first_s for a in came),
            stretch=spread([a.stretch for a in came]),
        )


async def _disturb(lab: Lab, door: Door) -> Gaps:
    texts = lab.writer.prompts(count=RUNNING_STREAMS, tokens=100)
    traces = [Trace() for _ in texts]
    room = LONG_CONTEXT - 120
    tasks = [
        asyncio.create_task(door.ask(text, room, trace))
        for text, trace in zip(texts, traces, strict=True)
    ]
    quiet, asked = [], []
    try:
        while not all(trace.pieces_s for trace in traces):
            await _nothing_failed(tasks)
        quiet.append(await _pause())
        for text in lab.writer.prompts(count=ARRIVALS, tokens=LONG_TOKENS):
            asked.append(await door.ask(text, 1, Trace()))
            await asyncio.sleep(SETTLING_S)
            quiet.append(await _pause())
        await _nothing_failed(tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    calm = [gaps_within(traces, window) for window in quiet]
    came = [
        Arrival(
            disturbed_s=gaps_touching(traces, (trace.sent_s, trace.pieces_s[0])),
            around_s=[*before, *after],
            first_s=trace.first_s,
        )
        for trace, before, after in zip(asked, calm, calm[1:], strict=False)
    ]
    return Gaps(calm[0], came, calm[-1])


async def _pause() -> Window:
    """Let the streams run by themselves for a while."""
    since = time.perf_counter()
    await asyncio.sleep(QUIET_S)
    return since, time.perf_counter()


async def _nothing_failed(tasks: Sequence[asyncio.Task[Trace]]) -> None:
    """Give the streams a moment; one that ended already tells why."""
    done, _ = await asyncio.wait(tasks, timeout=0.01)
    for task in done:
        task.result()


def gaps_within(traces: Sequence[Trace], window: Window) -> list[float]:
    """Gaps between tokens that begin and end in `window`."""
    since, until = window
    return [end - begin for begin, end in _gaps(traces) if since <= begin and end <= until]


def gaps_touching(traces: Sequence[Trace], window: Window) -> list[float]:
    """Gaps between tokens of which some part lies in `window`."""
    since, until = window
    return [end - begin for begin, end in _gaps(traces) if begin < until and end > since]


def _gaps(traces: Sequence[Trace]) -> Iterator[Window]:
    return chain.from_iterable(zip(t.pieces_s, t.pieces_s[1:], strict=False) for t in traces)


@dataclass(frozen=True)
class Prefixes:
    """Times to first token, in seconds."""

    cold_s: float
    shared_s: list[float]
    growing_s: list[float]


async def prefixes(lab: Lab) -> None:
    """A long prefix that comes again: a system prompt that requests share, a chat that grows."""
    async with started(lab.servers, slots=4, context=LONG_CONTEXT) as running:

        def way(door: Door) -> Callable[[], Awaitable[Prefixes]]:
            return lambda: _repeat(lab, door)

        doors = doors_of(running)
        rounds = await lab.run("a prefix again", {n: way(door) for n, door in doors.items()})
    for name in doors:
        seen = rounds.of(name)
        lab.add(
            "prefixes",
            name,
            rounds,
            prompt_tokens=LONG_TOKENS,
            cold_s=percentiles(p.cold_s for p in seen),
            shared_s=percentiles(chain.from_iterable(p.shared_s for p in seen)),
            growing_s=percentiles(chain.from_iterable(p.growing_s for p in seen)),
        )


async def _repeat(lab: Lab, door: Door) -> Prefixes:
    system, chat = lab.writer.prompts(count=2, tokens=LONG_TOKENS)
    questions = lab.writer.prompts(count=FOLLOW_UPS * 2 + 1, tokens=QUESTION_TOKENS)
    first = await door.ask(f"{system}\n{questions.pop()}", ANSWER_TOKENS, Trace())
    shared = []
    for _ in range(FOLLOW_UPS):
        trace = await door.ask(f"{system}\n{questions.pop()}", ANSWER_TOKENS, Trace())
        shared.append(trace.first_s)
    turn = await door.ask(chat, ANSWER_TOKENS, Trace())
    growing = []
    for _ in range(FOLLOW_UPS):
        chat += "".join(turn.text) + f"\n{questions.pop()}"
        turn = await door.ask(chat, ANSWER_TOKENS, Trace())
        growing.append(turn.first_s)
    return Prefixes(first.first_s, shared, growing)


async def memory(lab: Lab) -> None:
    """The memory of fresh servers once every slot has been filled, and its greatest amount."""

    def way(server: Server) -> Callable[[], Awaitable[Held]]:
        async def run() -> Held:
            texts = lab.writer.prompts(count=FULL_SLOTS, tokens=LONG_TOKENS)
            async with server.start(slots=FULL_SLOTS, context=CONTEXT) as running:
                await closed(running.doors[SSE], texts, NEW_TOKENS)
                return held(running.pids)

        return run

    rounds = await lab.run("memory", {server.name: way(server) for server in lab.servers})
    for server in lab.servers:
        sizes = spreads([one.mib() for one in rounds.of(server.name)])
        lab.add("memory", server.name, rounds, slots=FULL_SLOTS, context=CONTEXT, **sizes)


async def readiness(lab: Lab) -> None:
    """From exec to the first request that would be taken."""

    def way(server: Server) -> Callable[[], Awaitable[dict[str, float]]]:
        return lambda: server.ready_s()

    rounds = await lab.run("readiness", {server.name: way(server) for server in lab.servers})
    for server in lab.servers:
        times = spreads(rounds.of(server.name))
        figures = {f"{key}_seconds": time for key, time in times.items()}
        lab.add("readiness", server.name, rounds, **figures)
