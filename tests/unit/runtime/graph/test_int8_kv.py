"""Int8 caches: their scales, graphs that hold both attentions, and prompts read in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exporters.graph.kv_int8 import SCALES_FILE, cache_in_int8
from exporters.measure.runner import Runner, log_softmax
from exporters.quantise.kv_scales import MARGIN, calibrate
from nsedge.bundle.causal_lm import KvLayout, PromptIo, Variant
from nsedge.errors import BundleInvalid
from nsedge.runtime.decode.plan import Chunk, KvCopy, KvSwap, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence, State
from nsedge.runtime.graph.executor import Executor, Source
from nsedge.runtime.graph.executors import open_executor
from nsedge.runtime.graph.kv import HostKv, round_to_int8
from nsedge.runtime.graph.prompt_cache import PromptCaches, read_scales
from nsedge.runtime.hosting.text import reuse_of
from nsedge.runtime.settings import PrefixReuse
from tests.unit.tiny_decoder import (
    IO,
    KV_HEADS,
    LAYERS,
    LAYOUT,
    VOCABULARY,
    WIDTH,
    save,
    tiny_graph,
)

F32 = NDArray[np.float32]
CAPACITY = 64
IDS = tuple(int(i) for i in np.random.default_rng(3).integers(0, VOCABULARY, 40))
TEXTS = [list(IDS[:20]), list(IDS[20:])]


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float32 graph."""
    return save(tiny_graph(), tmp_path_factory.mktemp("exact"))


@pytest.fixture(scope="module")
def scales(exact: Path) -> F32:
    return calibrate(Runner(exact, io=IO, kv=LAYOUT, capacity=CAPACITY), TEXTS)


@pytest.fixture(scope="module")
def rounded(tmp_path_factory: pytest.TempPathFactory, scales: F32) -> tuple[Path, Variant]:
    """The graph with an int8 cache, and its variant."""
    graph = tiny_graph()
    io, kv = cache_in_int8(graph, io=IO, kv=LAYOUT, scales=scales)
    path = save(graph, tmp_path_factory.mktemp("rounded"))
    np.save(path.with_name(SCALES_FILE), scales)
    return path, Variant(name="v", device="cpu", scheme="fp32", graph="model.onnx", io=io, kv=kv)


def executor(graph: Path, variant: Variant) -> Executor:
    return open_executor(
        Source(
            graph=graph,
            variant=variant,
            vocab_size=VOCABULARY,
            slots=3,
            capacity=CAPACITY,
            threads=1,
            scales=None if variant.kv.scales is None else graph.with_name(variant.kv.scales),
        )
    )


@pytest.fixture
def int8(rounded: tuple[Path, Variant]) -> Executor:
    return executor(*rounded)


@pytest.fixture
def float32(exact: Path) -> Executor:
    variant = Variant(name="v", device="cpu", scheme="fp32", graph="model.onnx", io=IO, kv=LAYOUT)
    return executor(exact, variant)


def prompt(ids: tuple[int, ...] = IDS[:30]) -> Sequence:
    sequence = Sequence(prompt_ids=ids, limits=Limits(max_tokens=10), submitted_s=0.0)
    sequence.move(State.PREFILL)
    return sequence


def read(runner: Executor, sequence: Sequence, *ends: int, row: int = 0, start: int = 0) -> F32:
    """Read the prompt in chunks that end at `ends`; the logits after the last."""
    for end in ends:
        logits = runner.run(StepPlan((), (Chunk(sequence, row, start, end),), ()))
        start = end
    sequence.row, sequence.kv_length = row, start
    return logits.array.copy()


def decode(runner: Executor, sequence: Sequence, ids: tuple[int, ...]) -> F32:
    """Logits [len(ids), V] after each of `ids`."""
    sequence.move(State.RUNNING)
    rows = []
    for token in ids:
        sequence.output_ids.append(token)
        rows.append(runner.run(StepPlan((), (), (sequence,))).row(0).copy())
        sequence.kv_length += 1
    return np.array(rows)


def divergence(wanted: F32, got: F32) -> float:
    """Mean KL of the distributions, in nats."""
    a, b = (log_softmax(x) for x in (wanted, got))
    return float((np.exp(a) * (a - b)).sum(-1).mean())


def test_scales_span_what_was_seen_with_room(exact: Path, scales: F32) -> None:
    runner = Runner(exact, io=IO, kv=LAYOUT, capacity=CAPACITY)
    runner.log_probs(TEXTS[0])
    seen = np.abs(runner.cached(len(TEXTS[0]))).max(axis=3)
    assert scales.shape == (LAYERS, 2, KV_HEADS, WIDTH)
    assert scales.dtype == np.float32
    assert np.all(seen * MARGIN <= scales * 127 * (1 + 1e-6))


def test_calibrating_needs_a_text(exact: Path) -> None:
    with pytest.raises(ValueError, match="no passages"):
        calibrate(Runner(exact, io=IO, kv=LAYOUT, capacity=CAPACITY), [])


def test_a_prompt_is_read_as_in_float32(int8: Executor, float32: Executor) -> None:
    assert np.array_equal(read(int8, prompt(), 30), read(float32, prompt(), 30))


def test_decoding_stays_near_float32(int8: Executor, float32: Executor) -> None:
    mine, exact = prompt(), prompt()
    read(int8, mine, 30)
    read(float32, exact, 30)
    wanted, got = decode(float32, exact, IDS[30:]), decode(int8, mine, IDS[30:])
    assert 0 < divergence(wanted, got) < 0.02


def test_nothing_depends_on_where_a_prompt_was_cut(int8: Executor) -> None:
    whole, cut = prompt(), prompt()
    first = read(int8, whole, 30), decode(int8, whole, IDS[30:])
    second = read(int8, cut, 7, 8, 30), decode(int8, cut, IDS[30:])
    np.testing.assert_allclose(first[0], second[0], atol=1e-4)
    # A sum in another order may round a number to its neighbour.
    assert divergence(first[1], second[1]) < 1e-4


def test_two_prompts_are_read_in_turn(int8: Executor) -> None:
    alone = read(int8, prompt(), 30)
    mine, other = prompt(), prompt(IDS[10:35])
    for start, end in ((0, 10), (10, 20), (20, 25)):
        chunks = (Chunk(mine, 1, start, end), Chunk(other, 2, start, end))
        int8.run(StepPlan((), chunks, ()))
    logits = read(int8, mine, 30, row=1, start=25)
    np.testing.assert_allclose(logits, alone, atol=1e-4)


def test_a_piece_that_is_read_again_is_as_exact_as_before(int8: Executor) -> None:
    wanted = read(int8, prompt(), 30)
    mine = prompt()
    for start, end in ((0, 10), (10, 25), (10, 25), (5, 25), (25, 30), (25, 30)):
        logits = int8.run(StepPlan((), (Chunk(mine, 1, start, end),), ()))
    np.testing.assert_allclose(logits.array, wanted, atol=1e-4)


def test_a_prompt_goes_on_from_what_another_left(int8: Executor, float32: Executor) -> None:
    read(int8, prompt(), 30)
    wanted = read(float32, prompt(), 30)
    sequence = prompt()
    int8.copy((KvCopy(0, 2, 20),))
    plan = StepPlan((), (Chunk(sequence, 2, 20, 30),), ())
    assert 0 < divergence(wanted, int8.run(plan).array) < 0.02


def test_rows_change_places(int8: Executor) -> None:
    sequence = prompt()
    read(int8, sequence, 30, row=1)
    int8.copy((KvSwap(1, 0, 30),))
    sequence.row = 0
    moved = decode(int8, sequence, IDS[30:])
    again = prompt()
    read(int8, again, 30)
    assert np.array_equal(moved, decode(int8, again, IDS[30:]))


def test_rounding_is_what_attention_does(rounded: tuple[Path, Variant], scales: F32) -> None:
    """The graph's own cache, filled position by position, against `round_to_int8`."""
    graph, variant = rounded
    filled = Runner(graph, io=variant.io, kv=variant.kv, capacity=CAPACITY)
    filled.log_probs([1, 2, 3])
    exact = Runner(save(tiny_graph(), graph.parent / "exact"), io=IO, kv=LAYOUT, capacity=CAPACITY)
    exact.log_probs([1, 2, 3])
    out = np.zeros((KV_HEADS, 3, WIDTH), np.int8)
    for kind in range(2):
        round_to_int8(exact.cached(3)[0, kind], scales[0, kind][:, None], out)
        assert np.array_equal(out, filled.cached(3)[0, kind])


def test_what_exceeds_the_range_is_cut(scales: F32) -> None:
    out = np.zeros((1, 1, 2), np.int8)
    round_to_int8(np.array([[[1e6, -1e6]]], np.float32), np.ones((1, 1, 1), np.float32), out)
    assert out.tolist() == [[[127, -128]]]


def test_memory_of_prompts_that_are_read_is_used_again(scales: F32) -> None:
    layout = KvLayout(
        layers=LAYERS, heads=KV_HEADS, head_dim=WIDTH, dtype="int8", scales=SCALES_FILE
    )
    rows = HostKv(layout, rows=2, capacity=CAPACITY, dtype="int8")
    caches = PromptCaches(layout, rows=rows, scales=scales, capacity=CAPACITY)
    first, second, third = prompt(), prompt(), prompt()
    mine = caches.before(Chunk(first, 0, 0, 10))
    other = caches.before(Chunk(second, 1, 0, 10))
    assert mine is not other
    assert caches.before(Chunk(first, 0, 10, 20)) is mine
    first.move(State.RUNNING)
    assert caches.before(Chunk(third, 0, 0, 10)) is mine


def test_scales_that_are_no_scales_are_refused(tmp_path: Path) -> None:
    path = tmp_path / SCALES_FILE
    for content in (np.zeros((1, 2, 3, 4), np.float32), np.zeros(3), np.array(["text"])):
        np.save(path, content)
        with pytest.raises(BundleInvalid, match=SCALES_FILE):
            read_scales(path, LAYOUT)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(BundleInvalid, match=SCALES_FILE):
        read_scales(path, LAYOUT)


def test_a_manifest_names_scales_where_the_cache_is_int8_and_only_there() -> None:
    with pytest.raises(ValueError, match="scales"):
        KvLayout(layers=1, heads=1, head_dim=16, dtype="int8")
    with pytest.raises(ValueError, match="scales"):
        KvLayout(layers=1, heads=1, head_dim=16, scales=SCALES_FILE)
    kv = KvLayout(layers=1, heads=1, head_dim=16, dtype="int8", scales=SCALES_FILE)
    with pytest.raises(ValueError, match="prompt cache"):
        Variant(name="v", device="cpu", scheme="fp32", graph="g", io=IO, kv=kv)
    assert PromptIo().flag != IO.input_ids


def test_prefixes_are_reused_only_where_asked_for_what_is_not_exact(
    rounded: tuple[Path, Variant],
) -> None:
    variant = rounded[1]
    assert reuse_of(variant, PrefixReuse.EXACT) is PrefixReuse.OFF
    assert reuse_of(variant, PrefixReuse.FULL) is PrefixReuse.FULL
