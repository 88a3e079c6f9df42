"""The cost of adapters: decode steps of rows with none, one or four adapters, as ratios to the
plain base in the same rounds, by rank; all projections are adapted, with random matrices.

Beside tokens/s there are tokens per second of processor time, which neighbours disturb less.

    python -m bench.adapters --bundle DIR [--ranks 8,16,64] [--rows 1,8,16] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import Noise, chosen_of, emit, parser, say
from bench.rounds import paired_ratio
from bench.step import GREEDY, Bench
from exporters.adapter.graph import find_sites, with_adapters
from exporters.graph.records import GRAPH_FILE
from nsedge.bundle.sites import Site
from nsedge.runtime.graph.adapters import AdapterStack, LoadedAdapter
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.hosting.text import TextModel, load
from nsedge.runtime.machine.footprint import rss_bytes
from nsedge.runtime.settings import EngineSettings

ADAPTERS = 4
MIXES: dict[str, Callable[[int], str | None]] = {
    "base": lambda row: None,
    "one adapter": lambda row: "0",
    "half base, half one adapter": lambda row: "0" if row % 2 else None,
    "four adapters": lambda row: str(row % ADAPTERS),
}
"""Row -> the adapter that its tokens go through."""
BASE = "base"


def random_adapter(sites: tuple[Site, ...], rank: int, key: str) -> LoadedAdapter:
    """One of `rank` on every module, small enough to leave the text what it is."""
    random = np.random.default_rng(int(key))

    def matrix(width: int) -> Any:
        return random.standard_normal((rank, width), np.float32) * np.float32(0.01)

    return LoadedAdapter.of(
        key,
        sites,
        {p.module: (matrix(s.width), matrix(p.width)) for s in sites for p in s.parts},
    )


@dataclass(frozen=True)
class Speed:
    """Tokens/s by the clock, and by the processor's time."""

    clock: float
    processor: float


def decode(bench: Bench, rows: int, mix: str, options: argparse.Namespace) -> Speed:
    """How fast `rows` rows are that go through adapters as `mix` says."""
    rng = np.random.default_rng(rows)
    size, room = bench.resident.manifest.vocab_size, bench.resident.capacity - options.context
    jobs = []
    for row in range(rows):
        ids = tuple(int(i) for i in rng.integers(size // 100, size, options.context))
        job = bench.submit(ids, room)
        job.sequence.adapter = MIXES[mix](row)
        jobs.append(job)
    while not all(job.sequence.output_ids for job in jobs):
        bench.step()
    bench.step()
    busy_s = -time.process_time()
    took_s = sum(bench.step() for _ in range(options.tokens))
    busy_s += time.process_time()
    for job in jobs:
        bench.engine.cancel(job)
    bench.step()
    return Speed(rows * options.tokens / took_s, rows * options.tokens / busy_s)


def ratios(ours: list[Speed], theirs: list[Speed]) -> dict[str, float]:
    """The medians of the rounds' own ratios."""
    return {
        "clock": paired_ratio([s.clock for s in ours], [s.clock for s in theirs]),
        "processor": paired_ratio([s.processor for s in ours], [s.processor for s in theirs]),
    }


def of_rank(bench: Bench, graph: Path, sites: tuple[Site, ...], options: Any, rank: int) -> Any:
    """All mixes and numbers of rows, interleaved, with adapters of `rank` loaded."""
    adapters = [random_adapter(sites, rank, str(place)) for place in range(ADAPTERS)]
    before = rss_bytes()
    bench.resident.executor.open_adapters(graph, AdapterStack(sites, adapters))
    session_bytes = rss_bytes() - before
    rates: dict[tuple[int, str], list[Speed]] = defaultdict(list)
    noise = []
    for number in range(options.rounds + 1):
        watch = Noise()
        for rows in options.rows:
            for mix in MIXES:
                rate = decode(bench, rows, mix, options)
                if number:  # the first is for warming up
                    rates[rows, mix].append(rate)
        noise.append(watch.others())
    bench.resident.executor.close_adapters()
    result: dict[str, Any] = {
        "adapter_bytes": adapters[0].nbytes,
        "session_and_stack_bytes": session_bytes,
        "others_cores": noise,
        "rows": {
            rows: {
                mix: {
                    "tokens_per_s": statistics.median(s.clock for s in rates[rows, mix]),
                    "of_base": ratios(rates[rows, mix], rates[rows, BASE]),
                }
                for mix in MIXES
            }
            for rows in options.rows
        },
    }
    for rows, mixes in result["rows"].items():
        told = ", ".join(f"{mix} {told_ratio(found['of_base'])}" for mix, found in mixes.items())
        say(f"rank {rank:3} rows {rows:3}: {told}")
    return result


def told_ratio(ratio: dict[str, float]) -> str:
    """By the clock, and by the processor's time."""
    return f"{ratio['clock']:.2f} ({ratio['processor']:.2f})"


def beside(bench: Bench, graph: Path, sites: tuple[Site, ...], options: Any) -> Any:
    """The plain base's speed with the adapters' session open, as a ratio to that without."""
    stack = AdapterStack(sites, [random_adapter(sites, 16, "0")])
    rates: dict[tuple[int, bool], list[Speed]] = defaultdict(list)
    for _ in range(options.rounds):
        for is_open in (False, True):
            if is_open:
                bench.resident.executor.open_adapters(graph, stack)
            for rows in options.rows:
                rates[rows, is_open].append(decode(bench, rows, BASE, options))
            bench.resident.executor.close_adapters()
    found = {rows: ratios(rates[rows, True], rates[rows, False]) for rows in options.rows}
    say(f"the base, with adapters loaded: {found}")
    return found


def graph_of(resident: TextModel, folder: Path, into: Path) -> tuple[Path, tuple[Site, ...]]:
    """The variant's graph with inputs for adapters, written to `into`."""
    own, io = folder / resident.variant.graph, resident.variant.io
    sites = find_sites(own.with_name(GRAPH_FILE))
    graph = into / "adapters.onnx"
    graph.write_bytes(with_adapters(own, sites, io))
    return graph, sites


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--ranks", type=numbers, default=[8, 16, 64])
    arguments.add_argument("--rows", type=numbers, default=[1, 8, 16])
    arguments.add_argument("--context", type=int, default=64)
    arguments.add_argument("--tokens", type=int, default=16)
    options = arguments.parse_args()
    settings = EngineSettings(slots=max(options.rows), context_tokens=1024)
    resident = load(
        options.bundle,
        Host(settings=settings, deliver=lambda events: None, clock=time.perf_counter),
    )
    bench = Bench(resident, rows=max(options.rows), chunk=128, sampling=GREEDY)
    with tempfile.TemporaryDirectory() as folder:
        graph, sites = graph_of(resident, options.bundle, Path(folder))
        open_beside = beside(bench, graph, sites, options)
        ranks = {rank: of_rank(bench, graph, sites, options, rank) for rank in options.ranks}
    chosen = chosen_of(options)
    emit(
        {"bench": "adapters", "options": chosen, "beside": open_beside, "ranks": ranks},
        options.json,
    )


if __name__ == "__main__":
    main()
