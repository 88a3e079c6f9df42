"""The engine beside a busy process: tokens/s alone, with competitors, and after they left, with a
thread for every core, with one fewer, and with threads that follow the free cores.

    python -m bench.contention --bundle DIR [--rows 1,8] [--seconds 12] [--competitors 1]

A phase is `--seconds` long. Its first half, in which threads may change, is told apart from its
second.
"""

from __future__ import annotations

import contextlib
import enum
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.report import Noise, chosen_of, emit, parser, say
from nsedge.api import Event, Finished, Generate, Request, Sampling
from nsedge.runtime.decode.engine import Engine
from nsedge.runtime.decode.policy import Policy
from nsedge.runtime.decode.runner import StepRunner
from nsedge.runtime.decode.sampling.sampler import Sampler
from nsedge.runtime.decode.scheduler import Scheduler
from nsedge.runtime.decode.slots import Slots
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting.admission import make_job
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.hosting.text import follow_cores, load
from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.settings import EngineSettings

CONTEXT = 1024
PROMPT = Generate(text="The quick brown fox jumps over the lazy dog.")


class Phase(enum.StrEnum):
    """The load beside the engine."""

    ALONE = "alone"
    BESIDE = "beside competitors"
    AFTER = "after they left"


class Threads(enum.StrEnum):
    """How many threads the engine has."""

    ALL = "all"
    FEWER = "fewer"
    FOLLOW = "follow"


class Streams:
    """An engine that always decodes the same number of rows."""

    def __init__(self, bundle: Path, *, rows: int, threads: Threads) -> None:
        cores = usable_cores()
        count = max(1, cores - 1) if threads is Threads.FEWER else cores
        settings = EngineSettings(slots=rows, context_tokens=CONTEXT, threads=count)
        clock = time.monotonic
        resident = load(bundle, Host(settings=settings, deliver=_deliver, clock=clock))
        runner: StepRunner = resident.executor
        if threads is Threads.FOLLOW:
            graph = bundle / resident.variant.graph
            runner = follow_cores(resident.executor, graph=graph, threads=count, clock=clock)
        self._resident = resident
        self._engine = Engine(
            runner=runner,
            scheduler=Scheduler(slots=Slots(count=rows), policy=Policy(max_waiting=rows)),
            sampler=Sampler(end_ids=resident.manifest.eos_token_ids),
            deliver=_deliver,
            clock=clock,
        )
        for _ in range(rows):
            self._submit()

    def tokens_per_s(self, seconds: float) -> float:
        """Step for `seconds`."""
        before, began = self._made(), time.perf_counter()
        while time.perf_counter() - began < seconds:
            self._engine.drain_inbox(wait=False)
            self._engine.step()
        return (self._made() - before) / (time.perf_counter() - began)

    def _made(self) -> int:
        return self._engine.stats(slots=0, capacity=0).completion_tokens

    def _submit(self) -> None:
        sampling = Sampling(temperature=0.0, ignore_eos=True, max_tokens=CONTEXT // 4)
        job = make_job(
            Request(request_id="bench", model="", task=replace(PROMPT, sampling=sampling)),
            self._resident,
            prompt_ids=self._resident.prompts.read(PROMPT),
            submitted_s=time.monotonic(),
            emit=self._see,
        )
        self._engine.submit(job)

    def _see(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._submit()


def _deliver(batch: list[tuple[Emit, Event]]) -> None:
    for emit_event, event in batch:
        emit_event(event)


@contextlib.contextmanager
def competitors(count: int) -> Iterator[None]:
    """Processes that take all the processor time they get."""
    command = (sys.executable, "-c", "while True: pass")
    running = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(streams: Streams, seconds: float, count: int) -> list[dict[str, Any]]:
    """The phases in their order."""
    found = []
    for phase in Phase:
        watch = Noise()
        with competitors(count if phase is Phase.BESIDE else 0):
            halves = [streams.tokens_per_s(seconds / 2) for _ in range(2)]
        found.append({"phase": phase, "halves": halves, "others_cores": watch.others()})
    return found


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--rows", default="1,8")
    arguments.add_argument("--seconds", type=float, default=12.0)
    arguments.add_argument("--competitors", type=int, default=1)
    options = arguments.parse_args()
    result: dict[str, Any] = defaultdict(lambda: defaultdict(list))
    for rows in map(int, options.rows.split(",")):
        streams = {mode: Streams(options.bundle, rows=rows, threads=mode) for mode in Threads}
        for _ in range(options.rounds):
            for mode, stream in streams.items():
                phases = measure(stream, options.seconds, options.competitors)
                result[str(rows)][mode].append(phases)
        for mode in Threads:
            _say(rows, mode, result[str(rows)][mode])
    chosen = chosen_of(options)
    emit({"bench": "contention", "options": chosen, "rows": result}, options.json)


def _say(rows: int, mode: str, rounds: list[list[dict[str, Any]]]) -> None:
    for number, phase in enumerate(Phase):
        halves = [phases[number]["halves"] for phases in rounds]
        first, second = (statistics.median(half) for half in zip(*halves, strict=True))
        say(f"{rows:3} rows, threads {mode:6}  {phase:18}  {first:7.1f} {second:7.1f} tokens/s")


if __name__ == "__main__":
    main()
