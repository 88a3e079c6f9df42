"""Engines in process: decode and prefill rates, memory, and how near each one's weights are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lab import EngineProgram, Lab, spread, spreads
from bench.peers.building import Builder, command
from bench.peers.memory import Held, held
from bench.peers.process import Program, program, program_digest
from exporters.cache import folder_digest
from exporters.measure.fidelity import divergence
from exporters.measure.runner import Runner, log_softmax
from nsedge.bundle.files import sha256_of

ROWS = (1, 8, 16, 32)
CAPACITY = 1024
CONTEXT = 128
STEPS = 32
PREFILL = 512
FULL_ROWS = 16
FULL_CONTEXT = 900
SCORES = "scores.json"

Way = Callable[[], Awaitable[float]]


async def rates(lab: Lab, *, rows_list: Sequence[int], bench: LlamaBench | None) -> None:
    """Decode alone at several batch sizes, and a prompt alone."""
    async with contextlib.AsyncExitStack() as stack:
        programs = {
            engine.name: await stack.enter_async_context(_open(lab, engine, max(rows_list)))
            for engine in lab.engines
        }
        for rows in rows_list:
            ways = {name: _decode(found, rows) for name, found in programs.items()}
            if bench and rows == 1:
                ways[bench.name] = bench.decode
            rounds = await lab.run(f"in process, decode of {rows} rows", ways)
            for name in ways:
                rate = spread(rounds.of(name))
                lab.add("decode", name, rounds, rows=rows, context=CONTEXT, tokens_per_s=rate)
        ways = {name: _prefill(found) for name, found in programs.items()}
        if bench:
            ways[bench.name] = bench.prefill
        rounds = await lab.run(f"in process, prefill of {PREFILL}", ways)
        for name in ways:
            rate = spread(rounds.of(name))
            lab.add("prefill", name, rounds, prompt_tokens=PREFILL, tokens_per_s=rate)


async def memory(lab: Lab) -> None:
    """The memory of fresh processes that filled their slots, and its greatest amount."""

    def way(engine: EngineProgram) -> Callable[[], Awaitable[Held]]:
        async def run() -> Held:
            async with _open(lab, engine, FULL_ROWS) as found:
                tokens = CAPACITY - FULL_CONTEXT - 2 * FULL_ROWS
                await found.do("decode", rows=FULL_ROWS, context=FULL_CONTEXT, tokens=tokens)
                return held([found.pid])

        return run

    rounds = await lab.run("in process, memory", {e.name: way(e) for e in lab.engines})
    for engine in lab.engines:
        sizes = spreads([one.mib() for one in rounds.of(engine.name)])
        lab.add("engine-memory", engine.name, rounds, rows=FULL_ROWS, **sizes)


@dataclass(frozen=True, kw_only=True)
class LlamaBench:
    """llama.cpp's own benchmark of one row."""

    name: str
    binary: Path
    weights: Path
    threads: int

    async def decode(self) -> float:
        """Tokens/s after `CONTEXT` tokens."""
        return await self._run("-p", "0", "-n", str(STEPS), "-d", str(CONTEXT))

    async def prefill(self) -> float:
        """Tokens/s of a prompt of `PREFILL` tokens."""
        return await self._run("-p", str(PREFILL), "-n", "0")

    async def _run(self, *what: str) -> float:
        fixed = ("-m", str(self.weights), "-t", str(self.threads), "-r", "1", "-o", "jsonl")
        printed = await asyncio.to_thread(command, [self.binary, *fixed, *what])
        told = next(json.loads(line) for line in printed.splitlines() if line.startswith("{"))
        return float(told["avg_ts"])


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A peer's weights, whose program can tell logits."""

    engine: EngineProgram
    environment: Mapping[str, str] | None = None


async def fidelity(
    builder: Builder,
    weights: Weights,
    reference: Runner,
    passages: Sequence[Sequence[int]],
    *,
    text_sha256: str,
    threads: int,
    log: Path,
) -> dict[str, Any]:
    """Mean KL (nats) to `reference` and top-1 agreement, over every position of the passages.

    Kept: the same weights are not measured twice over the same text.
    """
    model = weights.engine.model
    inputs = {
        "model": folder_digest(model) if model.is_dir() else sha256_of(model),
        "text": text_sha256,
        "code": program_digest(weights.engine.program),
    }
    scores = Scores()
    if (kept := builder.kept("fidelity", inputs)) is None:
        arguments = [model, "1", str(reference.capacity), str(threads)]
        with tempfile.TemporaryDirectory(prefix="nsedge-bench-") as folder:
            file = Path(folder, "logits.npy")
            async with program(
                weights.engine.program,
                arguments,
                python=weights.engine.python,
                environment=weights.environment,
                log=log,
            ) as found:
                for passage in passages:
                    ids = list(passage)[: reference.capacity]
                    await found.do("logits", ids=ids, file=str(file))
                    scores.add(reference.log_probs(ids), log_softmax(np.load(file)))
        text = json.dumps(scores.summary())
        kept = builder.get("fidelity", inputs, lambda folder: _write(folder / SCORES, text))
    result: dict[str, Any] = json.loads((kept / SCORES).read_text(encoding="utf-8"))
    return result


class Scores:
    """Divergence and agreement, position by position."""

    def __init__(self) -> None:
        self._kl: list[float] = []
        self._agree: list[bool] = []

    def add(self, wanted: NDArray[np.float32], got: NDArray[np.float32]) -> None:
        """Log-probabilities [positions, V] of the reference and of the weights in question."""
        self._kl += [divergence(w, g) for w, g in zip(wanted, got, strict=True)]
        self._agree += (wanted.argmax(-1) == got.argmax(-1)).tolist()

    def summary(self) -> dict[str, Any]:
        """Positions, mean KL in nats, share of equal choices."""
        return {
            "positions": len(self._kl),
            "kl": round(float(np.mean(self._kl)), 6),
            "top1": round(float(np.mean(self._agree)), 4),
        }


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def _open(
    lab: Lab, engine: EngineProgram, rows: int
) -> contextlib.AbstractAsyncContextManager[Program]:
    arguments = [engine.model, str(rows), str(CAPACITY), str(lab.threads)]
    return program(engine.program, arguments, python=engine.python, log=lab.log)


def _decode(found: Program, rows: int) -> Way:
    async def run() -> float:
        answer = await found.do("decode", rows=rows, context=CONTEXT, tokens=STEPS)
        return float(answer["tokens_per_s"])

    return run


def _prefill(found: Program) -> Way:
    async def run() -> float:
        return float((await found.do("prefill", tokens=PREFILL))["tokens_per_s"])

    return run
