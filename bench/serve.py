"""The daemon end to end: the same requests through the bare engine, ZeroMQ and SSE, interleaved.

Two loads. Closed: so many streams at once, from the first submission to the last token; the share
of the bare engine's tokens/s that reaches the clients of each door. Open: requests arrive as a
Poisson process whatever the daemon does; time to first token and between tokens.

    python -m bench.serve --bundle DIR [--streams 16] [--rate 2] [--requests 40] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections import defaultdict
from typing import Any

from bench.bare import BareEngine
from bench.daemon import daemon
from bench.doors import Door, SseDoor, Trace, ZmqDoor, closed, open_session, opened
from bench.report import Noise, chosen_of, emit, parser, percentiles, say
from bench.workload import Writer
from nsedge.api import Sampling
from nsedge.ipc.client import AsyncClient
from nsedge.runtime.settings import EngineSettings


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
    writer = Writer.of(options.bundle)
    tokens = options.new_tokens
    sampling = Sampling(temperature=0.0, ignore_eos=True)
    bare = BareEngine(
        options.bundle, settings=EngineSettings(slots=options.streams), sampling=sampling
    )
    async with (
        daemon(options.bundle, slots=options.streams) as door,
        AsyncClient(door.endpoint) as client,
        open_session() as session,
    ):
        doors: dict[str, Door] = {
            "zeromq": ZmqDoor(client, door.model),
            "sse": SseDoor(session, door.url, door.model),
        }

        def connections(count: int) -> list[str]:
            return writer.prompts(count=count, tokens=options.prompt_tokens)

        rates: dict[str, list[float]] = defaultdict(list)
        traces: dict[str, list[Trace]] = defaultdict(list)
        noise = []
        for number in range(options.rounds + 1):  # the first warms up
            watch = Noise()
            texts = connections(options.streams)
            bare_rate = await asyncio.to_thread(bare.tokens_per_s, texts, max_tokens=tokens)
            for name, way in doors.items():
                rate, seen = await closed(way, connections(options.streams), tokens)
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
        for name, way in doors.items():
            rate, seen = await opened(way, connections(options.requests), tokens, options.rate)
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
    described = chosen_of(options)
    emit({"bench": "serve", "options": described, **result}, options.json)


def _ms(figures: dict[str, float]) -> str:
    return "/".join(f"{figures[p] * 1e3:.1f}" for p in ("p50", "p95", "p99"))


if __name__ == "__main__":
    main()
