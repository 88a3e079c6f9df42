"""The cost of a long queue: admission, cancelling in the queue, a decode step, and a row's change
of hands, at few and at many queued requests. The engine and its model are stepped from here, so
that each part is timed by itself; both lengths take turns in every round.

    python -m bench.queue --bundle DIR [--lengths 10,10000] [--rows 4] [--rounds 5]
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from bench.report import Noise, chosen_of, emit, parser, say
from bench.step import GREEDY, Bench
from nsedge.api import Generate
from nsedge.runtime.decode.job import Job
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.hosting.text import load
from nsedge.runtime.settings import EngineSettings

TEXT = "Write down wind and weather."
PARTS = ("admission", "cancellation", "step", "step_outside_model", "turnover_outside_model")


class Queue:
    """An engine whose rows are all taken, and a queue behind them."""

    def __init__(self, bench: Bench, rows: int) -> None:
        self._bench = bench
        self._rows = rows
        self._prompt = Generate(text=TEXT)
        self._room = bench.resident.capacity // 2
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self.fill(rows)
        self._settle()

    def fill(self, length: int) -> None:
        """Let so many requests wait."""
        while len(self._waiting) > length:
            self._bench.engine.cancel(self._waiting.pop())
        while len(self._waiting) < length:
            self._waiting.append(self._admit())
        self._bench.engine.drain_inbox(wait=False)

    def measure(self, repeats: int) -> dict[str, list[float]]:
        """Seconds of each of `PARTS`, so many times; the queue is as long afterwards."""
        found: dict[str, list[float]] = defaultdict(list)
        for _ in range(repeats):
            began = time.perf_counter()
            job = self._admit()
            self._bench.engine.drain_inbox(wait=False)
            found["admission"].append(time.perf_counter() - began)
            found["cancellation"].append(self._timed(functools.partial(self._cancel, job)))
            whole, outside = self._step()
            found["step"].append(whole)
            found["step_outside_model"].append(outside)
        for _ in range(max(1, repeats // 8)):
            found["turnover_outside_model"].append(self._change_hands())
            self._waiting.append(self._admit())
            self._bench.engine.drain_inbox(wait=False)
        return found

    def _admit(self) -> Job:
        """The road from a text to the engine's inbox."""
        return self._bench.submit(self._bench.resident.prompts.read(self._prompt), self._room)

    def _cancel(self, job: Job) -> None:
        self._bench.engine.cancel(job)
        self._bench.engine.drain_inbox(wait=False)

    def _change_hands(self) -> float:
        """End a running request, and step until the next has its row and first token."""
        self._cancel(self._running.pop(0))
        outside = 0.0
        successor = self._waiting.pop(0)
        while not successor.sequence.output_ids:
            outside += self._step()[1]
        self._running.append(successor)
        return outside

    def _settle(self) -> None:
        self._running, self._waiting = self._waiting[: self._rows], self._waiting[self._rows :]
        while not all(job.sequence.output_ids for job in self._running):
            self._bench.step()

    def _step(self) -> tuple[float, float]:
        """The seconds of a step, and of that what was not the model."""
        before_s = self._bench.runner.model_s
        whole = self._bench.step()
        return whole, whole - (self._bench.runner.model_s - before_s)

    def _timed(self, act: Callable[[], None]) -> float:
        began = time.perf_counter()
        act()
        return time.perf_counter() - began


def measure(queue: Queue, options: argparse.Namespace) -> dict[str, Any]:
    """All rounds, the lengths taking turns; medians in seconds, and the greatest over the least."""
    lengths = [int(length) for length in options.lengths.split(",")]
    found: dict[int, dict[str, list[float]]] = {n: defaultdict(list) for n in lengths}
    noise = []
    for _ in range(options.rounds):
        watch = Noise()
        for length in lengths:
            queue.fill(length)
            for part, seconds in queue.measure(options.repeats).items():
                found[length][part] += seconds
        noise.append(watch.others())
    medians = {n: {p: statistics.median(s) for p, s in f.items()} for n, f in found.items()}
    first, last = medians[lengths[0]], medians[lengths[-1]]
    return {
        "queued": medians,
        "ratio": {part: last[part] / first[part] for part in PARTS},
        "others_cores": noise,
    }


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--lengths", default="10,10000", help="requests that wait")
    arguments.add_argument("--rows", type=int, default=4, help="requests that run")
    arguments.add_argument("--repeats", type=int, default=64, help="of each part in a round")
    options = arguments.parse_args()
    most = max(int(length) for length in options.lengths.split(","))
    settings = EngineSettings(slots=options.rows, context_tokens=2048)
    resident = load(
        options.bundle, Host(settings=settings, deliver=_ignore, clock=time.perf_counter)
    )
    bench = Bench(resident, rows=options.rows, chunk=128, sampling=GREEDY, waiting=2 * most)
    result = measure(Queue(bench, options.rows), options)
    for part in PARTS:
        told = ", ".join(f"{n}: {m[part] * 1e6:.0f} us" for n, m in result["queued"].items())
        say(f"{part:24} {told}; ratio {result['ratio'][part]:.2f}")
    described = chosen_of(options)
    emit({"bench": "queue", "options": described, **result}, options.json)


def _ignore(_: object) -> None:
    """Where the engine's events go."""


if __name__ == "__main__":
    main()
