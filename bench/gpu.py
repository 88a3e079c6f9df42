"""A GPU against the CPU: whether it says the same, and tokens/s at several batch sizes, with and
without CUDA graphs. For a person with an NVIDIA GPU; prints why where there is none.

    nsedge-export starter --out cpu-bundle
    nsedge-export starter --device cuda --scheme int8-b32 --out gpu-bundle
    python -m bench.gpu --bundle gpu-bundle --reference cpu-bundle [--rows 1,8,32,128]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.report import chosen_of, emit, parser, say
from nsedge.bundle.causal_lm import GoldenPrompt, Variant
from nsedge.bundle.manifest import TextBundle, open_causal_lm
from nsedge.errors import DeviceUnavailable
from nsedge.runtime.decode.plan import Chunk, KvCopy, KvSwap, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence, State
from nsedge.runtime.graph.executor import Source
from nsedge.runtime.graph.executors import open_executor
from nsedge.runtime.hosting.warming import largest_steps

F32 = NDArray[np.float32]
CHUNK = 512
MAX_KL = 0.02
MIN_TOP1 = 0.9


class Model:
    """One variant of a bundle, stepped from here."""

    def __init__(
        self, bundle: TextBundle, variant: Variant, *, rows: int, capacity: int, captures: bool
    ) -> None:
        self.capacity = capacity
        self.executor = open_executor(
            Source(
                graph=bundle.file(variant.graph),
                variant=variant,
                vocab_size=bundle.manifest.vocab_size,
                slots=rows,
                capacity=capacity,
                threads=2,
                captures=captures,
            )
        )
        for plan in largest_steps(slots=rows, capacity=capacity, chunk_tokens=CHUNK):
            self.executor.run(plan)

    def read(self, ids: tuple[int, ...], row: int, *, start: int = 0) -> tuple[Sequence, F32]:
        """Read a prompt into `row`, which holds `start` tokens of it; logits [V] after it."""
        sequence = Sequence(prompt_ids=ids, limits=Limits(max_tokens=1 << 20), submitted_s=0.0)
        sequence.move(State.PREFILL)
        sequence.row = row
        for begin in range(start, len(ids), CHUNK):
            chunk = Chunk(sequence, row, begin, min(begin + CHUNK, len(ids)))
            logits = self.executor.run(StepPlan((), (chunk,), ()))
        sequence.kv_length = len(ids)
        sequence.move(State.RUNNING)
        return sequence, logits.row(0).copy()

    def decode(self, sequences: list[Sequence], tokens: list[int]) -> F32:
        """Give row i `tokens[i]`; logits [rows, V], valid until the next step."""
        for sequence, token in zip(sequences, tokens, strict=True):
            sequence.output_ids.append(token)
        logits = self.executor.run(StepPlan((), (), tuple(sequences)))
        for sequence in sequences:
            sequence.kv_length += 1
        return logits.array


def log_softmax(logits: F32) -> NDArray[np.float64]:
    """Over the last axis."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def said(model: Model, prompts: list[tuple[int, ...]], follow: list[list[int]]) -> F32:
    """Logits [tokens + 1, prompts, V]: each prompt in its row, then all of them together."""
    rows, first = zip(*(model.read(ids, row) for row, ids in enumerate(prompts)), strict=True)
    columns = zip(*follow, strict=True)
    then = [model.decode(list(rows), list(column)).copy() for column in columns]
    return np.array([np.array(first), *then])


def compare(model: Model, reference: Model, bundle: TextBundle) -> dict[str, Any]:
    """Teacher-forced over the golden prompts, and rows that are copied and exchanged."""
    golden = bundle.golden("generate", GoldenPrompt)
    length = min(len(prompt.continuation_ids) for prompt in golden)
    prompts = [prompt.prompt_ids for prompt in golden]
    follow = [list(prompt.continuation_ids[:length]) for prompt in golden]
    wanted = log_softmax(said(reference, prompts, follow))
    got = log_softmax(said(model, prompts, follow))
    kl = float((np.exp(wanted) * (wanted - got)).sum(-1).mean())
    top1 = float((wanted.argmax(-1) == got.argmax(-1)).mean())
    moved = rows_move(model, prompts[0])
    good = kl <= MAX_KL and top1 >= MIN_TOP1 and moved <= MAX_KL
    return {"passed": good, "kl": kl, "top1": top1, "rows_moved_kl": moved}


def rows_move(model: Model, ids: tuple[int, ...]) -> float:
    """KL of a prompt that was copied, overwritten and exchanged back, to itself before."""
    last = len(ids) - 1
    sequence, _ = model.read(ids, 0)
    before = log_softmax(model.decode([sequence], [ids[0]])[0])
    model.executor.copy((KvCopy(0, 2, last),))
    model.read(tuple(reversed(ids)), 0)
    model.executor.copy((KvSwap(2, 1, last), KvSwap(1, 0, last)))
    again, _ = model.read(ids, 0, start=last)
    after = log_softmax(model.decode([again], [ids[0]])[0])
    return float((np.exp(before) * (before - after)).sum())


def speed(model: Model, rows: int, context: int, tokens: int) -> float:
    """Decode tokens/s of `rows` rows after prompts of `context` random tokens."""
    random = np.random.default_rng(rows)
    prompts = random.integers(100, 10_000, (rows, context))
    sequences = [model.read(tuple(int(i) for i in ids), row)[0] for row, ids in enumerate(prompts)]
    chosen = [int(i) for i in random.integers(100, 10_000, rows)]
    for _ in range(4):  # CUDA graphs are captured in the first runs
        chosen = [int(i) for i in model.decode(sequences, chosen).argmax(-1)]
    began = time.perf_counter()
    for _ in range(tokens):
        chosen = [int(i) for i in model.decode(sequences, chosen).argmax(-1)]
    return rows * tokens / (time.perf_counter() - began)


def prefill(model: Model, tokens: int) -> float:
    """Tokens/s of reading one prompt."""
    ids = tuple(int(i) for i in np.random.default_rng(tokens).integers(100, 10_000, tokens))
    began = time.perf_counter()
    model.read(ids, 0)
    return tokens / (time.perf_counter() - began)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, without and with CUDA graphs."""
    rows_list = [int(rows) for rows in options.rows.split(",")]
    capacity = options.context + options.tokens + 16
    bundle, other = open_causal_lm(options.bundle), open_causal_lm(options.reference)
    variant = next((v for v in bundle.manifest.variants if v.device == "cuda"), None)
    standard = next(v for v in other.manifest.variants if v.device == "cpu" and not v.requires)
    if variant is None:
        raise DeviceUnavailable(f"{options.bundle} has no variant for a GPU")
    few = max(len(bundle.golden("generate", GoldenPrompt)), 3)
    reference = Model(other, standard, rows=few, capacity=1024, captures=False)
    result: dict[str, Any] = {}
    for captures in (False, True):
        name = "graphs" if captures else "plain"
        small = Model(bundle, variant, rows=few, capacity=1024, captures=captures)
        result[name] = {"correct": compare(small, reference, bundle)}
        large = Model(bundle, variant, rows=max(rows_list), capacity=capacity, captures=captures)
        rounds = range(options.rounds)
        result[name]["decode"] = {
            rows: statistics.median(
                speed(large, rows, options.context, options.tokens) for _ in rounds
            )
            for rows in rows_list
        }
        result[name]["prefill"] = statistics.median(prefill(large, options.context) for _ in rounds)
        say(f"{name}: {result[name]}")
    return result


def main() -> int:
    """Check, measure, print; 1 where there is no GPU or it says something else."""
    arguments = parser(__doc__)
    arguments.add_argument("--reference", type=Path, required=True, help="a bundle for the CPU")
    arguments.add_argument("--rows", default="1,8,32,128")
    arguments.add_argument("--context", type=int, default=512)
    arguments.add_argument("--tokens", type=int, default=64)
    options = arguments.parse_args()
    try:
        result = measure(options)
    except DeviceUnavailable as error:
        say(f"not run: {error}")
        return 1
    emit(
        {"bench": "gpu", "options": chosen_of(options), **result},
        options.json,
    )
    return 0 if all(result[name]["correct"]["passed"] for name in ("plain", "graphs")) else 1


if __name__ == "__main__":
    sys.exit(main())
