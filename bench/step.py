"""The engine alone: decode tokens/s at several batch sizes, prefill tokens/s, the model's share of
a step, what one row reaches of the bound that reading the weights from memory sets, and what each
step of sampling takes (`bench.sampler`). No service, no sockets, no threads but the model's own.

    python -m bench.step --bundle DIR [--rows 1,8,16] [--context 128] [--tokens 32] [--rounds 5]
        [--constrained]
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence as Many
from typing import Any

import numpy as np

from bench import bandwidth, sampler
from bench.report import Noise, chosen_of, emit, parser, percentiles, say
from nsedge.api import Constraint, Event, Generate, Request, Sampling
from nsedge.runtime.decode.engine import Engine
from nsedge.runtime.decode.job import Job
from nsedge.runtime.decode.plan import KvCopy, KvSwap, StepPlan
from nsedge.runtime.decode.policy import Policy
from nsedge.runtime.decode.runner import StepRunner
from nsedge.runtime.decode.sampling.logits import Logits
from nsedge.runtime.decode.sampling.sampler import Sampler
from nsedge.runtime.decode.scheduler import Scheduler
from nsedge.runtime.decode.slots import Slots
from nsedge.runtime.hosting.admission import make_job
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.hosting.text import TextModel, load
from nsedge.runtime.machine.cores import usable_cores
from nsedge.runtime.settings import EngineSettings, PrefixReuse

GREEDY = Sampling(temperature=0.0, ignore_eos=True)
DEFAULT = Sampling(seed=1, ignore_eos=True)


LINES = Constraint.lark(
    """start: line+
line: person "\\n"
person: %json {
  "type": "object",
  "properties": {
    "name": {"type": "string", "maxLength": 40},
    "age": {"type": "integer", "minimum": 0, "maximum": 150},
    "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 4}
  },
  "required": ["name", "age", "tags"],
  "additionalProperties": false
}
"""
)
"""The grammar of constrained rows: an object a line, without end."""


class TimedRunner:
    """Adds up what the model takes of the steps, and what copies of rows do."""

    def __init__(self, runner: StepRunner) -> None:
        self._runner = runner
        self.model_s = self.copy_s = 0.0

    def run(self, plan: StepPlan) -> Logits:
        began = time.perf_counter()
        logits = self._runner.run(plan)
        self.model_s += time.perf_counter() - began
        return logits

    def copy(self, copies: Many[KvCopy | KvSwap]) -> None:
        began = time.perf_counter()
        self._runner.copy(copies)
        self.copy_s += time.perf_counter() - began

    def clear(self, row: int, tokens: int) -> None:
        self._runner.clear(row, tokens)

    def recover(self) -> None:
        self._runner.recover()


class Bench:
    """An engine that is stepped from here."""

    def __init__(
        self,
        resident: TextModel,
        *,
        rows: int,
        chunk: int,
        sampling: Sampling,
        waiting: int | None = None,
    ) -> None:
        """`waiting` requests may wait; as many as run, unless told."""
        self.resident = resident
        self.sampling = sampling
        self.runner = TimedRunner(resident.executor)
        self.engine = Engine(
            runner=self.runner,
            scheduler=Scheduler(
                slots=Slots(count=rows),
                policy=Policy(
                    max_waiting=rows if waiting is None else waiting,
                    chunk_tokens=chunk,
                    prefix_reuse=PrefixReuse.OFF,
                ),
            ),
            sampler=Sampler(end_ids=resident.manifest.eos_token_ids),
            deliver=_ignore,
            clock=time.perf_counter,
        )

    def submit(
        self,
        ids: tuple[int, ...],
        max_tokens: int,
        *,
        lookup: bool = False,
        constraint: Constraint | None = None,
    ) -> Job:
        """Put a prompt into the inbox; `lookup` lets its answer be guessed from it."""
        request = Request(
            request_id="bench",
            model=self.resident.manifest.name,
            task=Generate(
                text="",
                sampling=dataclasses.replace(
                    self.sampling, max_tokens=max_tokens, prompt_lookup=lookup
                ),
                constraint=constraint,
            ),
        )
        job = make_job(
            request, self.resident, prompt_ids=ids, submitted_s=time.perf_counter(), emit=_drop
        )
        self.engine.submit(job)
        return job

    def step(self) -> float:
        """Make a step; its seconds."""
        began = time.perf_counter()
        self.engine.drain_inbox(wait=False)
        self.engine.step()
        return time.perf_counter() - began

    def decode(
        self, rows: int, context: int, tokens: int, constraint: Constraint | None = None
    ) -> dict[str, Any]:
        """Make `tokens` steps of `rows` rows, each after a prompt of `context` tokens."""
        rng = np.random.default_rng(rows)
        room = self.resident.capacity - context
        jobs = [
            self.submit(self._random(rng, context), room, constraint=constraint)
            for _ in range(rows)
        ]
        while not all(job.sequence.output_ids for job in jobs):
            self.step()
        self.step()
        model_before_s, written = self.runner.model_s, _written(jobs)
        steps = [self.step() for _ in range(tokens)]
        model_s, written = self.runner.model_s - model_before_s, _written(jobs) - written
        for job in jobs:
            self.engine.cancel(job)
        self.step()
        total_s = sum(steps)
        return {
            "tokens_per_s": written / total_s,
            "model_share": model_s / total_s,
            "steps": steps,
        }

    def prefill(self, tokens: int) -> float:
        """Tokens/s of reading one prompt, chunk by chunk, to its first token."""
        job = self.submit(self._random(np.random.default_rng(tokens), tokens), 1)
        began = time.perf_counter()
        while not job.sequence.output_ids:
            self.step()
        return tokens / (time.perf_counter() - began)

    def _random(self, rng: np.random.Generator, count: int) -> tuple[int, ...]:
        size = self.resident.manifest.vocab_size
        return tuple(int(i) for i in rng.integers(size // 100, size, count))


def _written(jobs: Many[Job]) -> int:
    """Tokens of all answers so far."""
    return sum(len(job.sequence.output_ids) for job in jobs)


def _drop(_: Event) -> None:
    """Where one event goes."""


def _ignore(_: object) -> None:
    """Where the bare engine's events go."""


def measure(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """All rounds, the batch sizes interleaved."""
    rows_list = [int(rows) for rows in options.rows.split(",")]
    rates: dict[int, list[dict[str, Any]]] = defaultdict(list)
    held: dict[int, list[dict[str, Any]]] = defaultdict(list)
    prefill, noise, read = [], [], []
    with bandwidth.reading(threads=usable_cores()) as reader:
        for _ in range(options.rounds):
            watch = Noise()
            for rows in rows_list:
                run = functools.partial(bench.decode, rows, options.context, options.tokens)
                figures, bytes_per_s = bandwidth.beside(reader, run)
                rates[rows].append(figures)
                if rows == 1:
                    read.append(bytes_per_s)
                if options.constrained:
                    held[rows].append(bench.decode(rows, options.context, options.tokens, LINES))
            prefill.append(bench.prefill(options.prefill))
            noise.append(watch.others())
    size = bandwidth.weight_bytes(options.bundle / bench.resident.variant.graph)
    alone = [r["tokens_per_s"] for r in rates.get(1, [])]
    return {
        "decode": {rows: summed(rounds) for rows, rounds in rates.items()},
        "constrained": {rows: summed(rounds) for rows, rounds in held.items()},
        "prefill_tokens_per_s": statistics.median(prefill),
        "bound": bandwidth.bound(size, alone, read) if alone else None,
        "others_cores": noise,
    }


def told(figures: dict[str, Any]) -> str:
    """Figures of decoding in words."""
    return (
        f"{figures['tokens_per_s']:8.1f} tokens/s"
        f"  step p50 {figures['step_s']['p50'] * 1e3:6.2f} ms"
        f"  model {figures['model_share']:.1%}"
    )


def summed(rounds: Many[dict[str, Any]]) -> dict[str, Any]:
    """The figures of several rounds as one."""
    return {
        "tokens_per_s": statistics.median(r["tokens_per_s"] for r in rounds),
        "tokens_per_s_rounds": [r["tokens_per_s"] for r in rounds],
        "model_share": statistics.median(r["model_share"] for r in rounds),
        "step_s": percentiles(s for r in rounds for s in r["steps"]),
    }


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--rows", default="1,8,16")
    arguments.add_argument("--context", type=int, default=128)
    arguments.add_argument("--tokens", type=int, default=32)
    arguments.add_argument("--prefill", type=int, default=512)
    arguments.add_argument("--chunk", type=int, default=128)
    arguments.add_argument("--sampled", action="store_true", help="the bundle's own sampling")
    arguments.add_argument(
        "--constrained", action="store_true", help="the same again, each row held to a JSON schema"
    )
    options = arguments.parse_args()
    rows = max(int(rows) for rows in options.rows.split(","))
    settings = EngineSettings(slots=rows, prefill_chunk_tokens=options.chunk, context_tokens=2048)
    resident = load(
        options.bundle, Host(settings=settings, deliver=_ignore, clock=time.perf_counter)
    )
    sampling = DEFAULT if options.sampled else GREEDY
    bench = Bench(resident, rows=rows, chunk=options.chunk, sampling=sampling)
    result = measure(bench, options)
    for count, figures in result["decode"].items():
        say(f"decode {count:3} rows  {told(figures)}")
        if count in result["constrained"]:
            constrained = result["constrained"][count]
            slower = constrained["step_s"]["p50"] / figures["step_s"]["p50"] - 1.0
            say(f"  constrained    {told(constrained)}  step {slower:+.1%}")
    if result["bound"] is not None:
        say(bandwidth.told(result["bound"]))
    say(f"prefill {options.prefill}  {result['prefill_tokens_per_s']:8.1f} tokens/s")
    shape = {"rows": rows, "vocabulary": resident.manifest.vocab_size}
    result["sampler"] = {
        **shape,
        "milliseconds": sampler.measure(**shape, rounds=4 * options.rounds),
    }
    sampler.told(result["sampler"]["milliseconds"], **shape)
    emit(
        {"bench": "step", "options": chosen_of(options), **result},
        options.json,
    )


if __name__ == "__main__":
    main()
