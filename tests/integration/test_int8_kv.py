"""The starter model with an int8 cache against the one with a float32 cache."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exporters.bundle.orders import MAX_CONTEXT, one_variant
from exporters.bundle.stages import ReferenceStages, VariantStages
from exporters.bundle.starter import NAME
from exporters.bundle.starter_folder import starter_source
from exporters.cache import Cache, cache_root
from exporters.graph.records import GRAPH_FILE
from exporters.measure.runner import log_softmax
from exporters.progress import Progress
from exporters.quantise.schemes import SCHEMES, STARTER_SCHEME, Device, KvFormat
from nsedge.bundle.causal_lm import GoldenPrompt, Variant
from nsedge.bundle.manifest import Bundle
from nsedge.runtime.decode.plan import Chunk, KvCopy, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence, State
from nsedge.runtime.graph.executor import Executor, Source
from nsedge.runtime.graph.executors import open_executor

pytestmark = pytest.mark.integration

F32 = NDArray[np.float32]
PROMPT = 200
MORE = 24


@pytest.fixture(scope="module")
def int8() -> Executor:
    """The int8 variant alone: measuring all of its fidelity belongs to exporting it."""
    cache = Cache(cache_root(), Progress(sys.__stderr__))
    scheme = SCHEMES[STARTER_SCHEME]
    reference = ReferenceStages(starter_source(cache), cache, max_context=MAX_CONTEXT)
    stages = VariantStages(reference, one_variant(scheme, KvFormat.INT8, Device.CPU))
    folder, record = stages.folder, stages.record
    variant = Variant(
        name=NAME, device="cpu", scheme=scheme.name, graph=GRAPH_FILE, io=record.io, kv=record.kv
    )
    return executor(folder, variant, record.vocab_size)


@pytest.fixture(scope="module")
def float32(starter_bundle: Path) -> Executor:
    """The standard variant of the starter, its cache in float32."""
    manifest = Bundle.open(starter_bundle).manifest
    variant = next(v for v in manifest.variants if not v.requires)
    return executor(starter_bundle, variant, manifest.vocab_size)


@pytest.fixture(scope="module")
def ids(starter_bundle: Path) -> tuple[int, ...]:
    """The golden prompts and what fp32 said to them, one after the other."""
    golden = Bundle.open(starter_bundle).golden("generate", GoldenPrompt)
    ids = [i for prompt in golden for i in (*prompt.prompt_ids, *prompt.continuation_ids)]
    return tuple(ids * (1 + (PROMPT + MORE) // len(ids)))[: PROMPT + MORE]


def executor(folder: Path, variant: Variant, vocab_size: int) -> Executor:
    return open_executor(
        Source(
            graph=folder / variant.graph,
            variant=variant,
            vocab_size=vocab_size,
            slots=2,
            capacity=256,
            threads=2,
            scales=None if variant.kv.scales is None else folder / variant.kv.scales,
        )
    )


def prompt(ids: tuple[int, ...]) -> Sequence:
    sequence = Sequence(prompt_ids=ids[:PROMPT], limits=Limits(max_tokens=MORE), submitted_s=0.0)
    sequence.move(State.PREFILL)
    return sequence


def play(runner: Executor, ids: tuple[int, ...], *ends: int) -> tuple[F32, F32]:
    """Log-probabilities [V] after the prompt, and [MORE, V] after each further token."""
    sequence, start = prompt(ids), 0
    for end in ends:
        logits = runner.run(StepPlan((), (Chunk(sequence, 0, start, end),), ()))
        start = end
    first = log_softmax(logits.row(0))
    sequence.row, sequence.kv_length = 0, PROMPT
    sequence.move(State.RUNNING)
    rows = []
    for token in ids[PROMPT:]:
        sequence.output_ids.append(token)
        rows.append(log_softmax(runner.run(StepPlan((), (), (sequence,))).row(0)))
        sequence.kv_length += 1
    return first, np.array(rows)


def divergence(wanted: F32, got: F32) -> float:
    """Mean KL in nats."""
    return float((np.exp(wanted.astype(np.float64)) * (wanted - got)).sum(-1).mean())


def test_a_prompt_is_read_as_with_a_float32_cache(
    int8: Executor, float32: Executor, ids: tuple[int, ...]
) -> None:
    wanted, got = play(float32, ids, 128, PROMPT), play(int8, ids, 128, PROMPT)
    np.testing.assert_allclose(got[0], wanted[0], atol=1e-4)
    # Both differ from fp32 by 0.007 to 0.008, most of it by the rounding of activations.
    assert divergence(wanted[1], got[1]) < 0.03
    assert np.mean(wanted[1].argmax(-1) == got[1].argmax(-1)) > 0.85


def test_nothing_depends_on_where_a_prompt_was_cut(int8: Executor, ids: tuple[int, ...]) -> None:
    """Pieces of more than one token: kernels of a single one round in another way."""
    first, second = play(int8, ids, 128, PROMPT), play(int8, ids, 50, 150, PROMPT)
    np.testing.assert_allclose(first[0], second[0], atol=1e-4)
    assert divergence(first[1], second[1]) < 1e-3


def test_a_prefix_is_used_again(int8: Executor, ids: tuple[int, ...]) -> None:
    cold, _ = play(int8, ids, 128, PROMPT)
    int8.copy((KvCopy(0, 1, 180),))
    plan = StepPlan((), (Chunk(prompt(ids), 1, 180, PROMPT),), ())
    assert divergence(cold, log_softmax(int8.run(plan).row(0))) < 0.03
