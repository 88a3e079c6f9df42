"""The common parts of the comparison's scenarios, and how their figures are told."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench.doors import Door, Trace
from bench.peers.servers import OurServer, Running, Server
from bench.report import Noise, percentiles, say
from bench.rounds import QUIET_CORES, Rounds, Schedule, interleave
from bench.workload import Writer

T = TypeVar("T")
Cell = dict[str, Any]
"""One contender in one load: what it was, and its figures, as plain data."""


@dataclass(frozen=True, kw_only=True)
class EngineProgram:
    """An engine to measure in process: a program of `bench.peers.programs` and its model."""

    name: str
    program: str
    model: Path
    python: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Lab:
    """The contenders: `servers` and `engines` begin with ours; `log` takes what programs say."""

    servers: Sequence[Server]
    engines: Sequence[EngineProgram]
    writer: Writer
    schedule: Schedule
    threads: int
    log: Path
    cells: list[Cell] = field(default_factory=list)

    def limited(self, rounds: int) -> Lab:
        """The same, in fewer rounds: for what hardly differs from one to the next."""
        fewer = min(rounds, self.schedule.rounds)
        extra = min(rounds, self.schedule.extra)
        return dataclasses.replace(
            self, schedule=dataclasses.replace(self.schedule, rounds=fewer, extra=extra, warm_up=0)
        )

    def main(self, peer: str) -> Lab:
        """The same, with our servers and one peer's alone: for long loads."""
        ours = [server for server in self.servers if isinstance(server, OurServer)]
        theirs = [server for server in self.servers if server.name == peer]
        return dataclasses.replace(self, servers=(*ours, *theirs))

    async def run(
        self, scenario: str, contenders: Mapping[str, Callable[[], Awaitable[T]]]
    ) -> Rounds[T]:
        """Interleave the contenders."""
        say(f"{scenario}: {', '.join(contenders)}")
        return await interleave(contenders, self.schedule, Noise)

    def add(self, scenario: str, contender: str, rounds: Rounds[Any], **figures: Any) -> None:
        """Keep and tell one cell."""
        cell = {
            "scenario": scenario,
            "contender": contender,
            **figures,
            "others_cores": [round(noise, 3) for noise in rounds.noise()],
            "kept_rounds": list(rounds.kept),
        }
        self.cells.append(cell)
        say("  " + line_of(cell))


def doors_of(running: Iterable[tuple[Server, Running]]) -> dict[str, Door]:
    """Every door of every server, by the name of its rows."""
    return {
        f"{server.name} {way}": door
        for server, found in running
        for way, door in found.doors.items()
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """The median of the rounds, and the rounds."""
    return {"median": statistics.median(values), "rounds": list(values)}


def spreads(rounds: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """The spread of each figure that every round has."""
    return {key: spread([figures[key] for figures in rounds]) for key in rounds[0]}


def latencies(traces: Sequence[Trace]) -> dict[str, Any]:
    """Time to first token and between tokens, over all streams of all rounds that count."""
    return {
        "first_token_s": percentiles(trace.first_s for trace in traces),
        "between_s": percentiles(gap for trace in traces for gap in trace.gaps_s),
    }


def disturbed(cell: Cell) -> bool:
    """Whether rounds count that were not quiet, since too few were."""
    return any(cell["others_cores"][number] > QUIET_CORES for number in cell["kept_rounds"])


def line_of(cell: Cell) -> str:
    """A cell for people: what it was, then every figure, times in milliseconds."""
    skipped = ("scenario", "contender", "others_cores", "kept_rounds")
    parts = [f"{cell['contender']:34}"]
    for key, value in cell.items():
        if key in skipped:
            continue
        if isinstance(value, dict) and "median" in value:
            parts.append(f"{key} {value['median']:.4g}")
        elif isinstance(value, dict):
            marks = "/".join(f"{seconds * 1e3:.0f}" for seconds in value.values())
            parts.append(f"{key.removesuffix('_s')} {marks} ms")
        else:
            parts.append(f"{key} {value}")
    return "  ".join(parts)
