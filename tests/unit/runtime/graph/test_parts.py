"""Steps that are run again, whole or in parts: the same numbers, in the same places."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exporters.adapter.graph import with_adapters
from nsedge.bundle.sites import Part, Site
from nsedge.runtime.decode.plan import Chunk, KvCopy, KvSwap, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence, State
from nsedge.runtime.graph.adapters import AdapterStack, LoadedAdapter
from nsedge.runtime.graph.executor import Executor, Source
from nsedge.runtime.graph.executors import open_executor
from tests.unit.tiny_decoder import HEADS, KV_HEADS, VOCABULARY, WIDTH

F32 = NDArray[np.float32]
ROWS = 6
MIX = Site(
    name="mix_0",
    role="mix",
    width=HEADS * WIDTH,
    parts=(Part(module="mix", width=(HEADS + 2 * KV_HEADS) * WIDTH),),
)


def prompt(row: int, adapter: str | None = None) -> Sequence:
    ids = np.random.default_rng(row).integers(0, VOCABULARY, 5 + row)
    sequence = Sequence(
        prompt_ids=tuple(int(token) for token in ids),
        limits=Limits(max_tokens=9),
        submitted_s=0.0,
        adapter=adapter,
    )
    sequence.move(State.PREFILL)
    sequence.row = row
    return sequence


def reading(sequences: Many[Sequence], start: int = 0) -> StepPlan:
    chunks = (Chunk(one, one.held_row, start, len(one.prompt_ids)) for one in sequences)
    return StepPlan((), tuple(chunks), ())


def running(runner: Executor, adapters: Many[str | None] = (None,) * ROWS) -> list[Sequence]:
    """All rows, their prompts read and a token chosen."""
    sequences = [prompt(row, adapter) for row, adapter in enumerate(adapters)]
    runner.run(reading(sequences))
    for one in sequences:
        one.kv_length = len(one.prompt_ids)
        one.move(State.RUNNING)
        one.output_ids.append(7 + one.held_row)
    return sequences


def step(runner: Executor, sequences: Many[Sequence]) -> F32:
    return runner.run(StepPlan((), (), tuple(sequences))).array.copy()


def go_on(runner: Executor, sequences: Many[Sequence]) -> F32:
    """The next step's logits: what the one before wrote is read by it."""
    for one in sequences:
        one.kv_length += 1
        one.output_ids.append(3)
    return step(runner, sequences)


@pytest.fixture
def runner(source: Source) -> Executor:
    return open_executor(replace(source, slots=ROWS))


@pytest.fixture
def near(source: Source) -> float:
    """How far rows may be from what they are in other company: by nothing on our own operators."""
    return 0.0 if source.variant.requires else 2e-5


@pytest.mark.parametrize(
    "parts",
    [
        [[0, 1, 2, 3, 4, 5]],
        [[0, 1, 2], [3, 4, 5]],
        [[3, 4, 5], [0, 1, 2]],
        [[0], [1, 2], [3, 4, 5]],
        [[5], [4], [3], [2], [1], [0]],
        [[0, 2, 4], [1, 3, 5]],
        [[1, 2, 5]],
    ],
)
def test_decoding_in_parts_is_decoding_at_once(
    runner: Executor, near: float, parts: list[list[int]]
) -> None:
    wanted = step(runner, running(runner))
    again = running(runner)
    after = go_on(runner, again)
    sequences = running(runner)
    step(runner, sequences)  # the whole, as if it had raised at its end
    for part in parts:
        got = step(runner, [sequences[row] for row in part])
        np.testing.assert_allclose(got, wanted[part], atol=near, rtol=0)
    np.testing.assert_allclose(go_on(runner, sequences), after, atol=near, rtol=0)


@pytest.mark.parametrize("parts", [[[1, 2]], [[0, 5]], [[4], [1], [3, 2]]])
def test_adapters_in_parts(
    runner: Executor, source: Source, tmp_path: Path, parts: list[list[int]]
) -> None:
    random = np.random.default_rng(1)

    def matrix(width: int) -> F32:
        return random.standard_normal((2, width), np.float32) * np.float32(0.3)

    loaded = [
        LoadedAdapter.of(
            key,
            (MIX,),
            {"mix": (matrix(MIX.width), matrix(MIX.outputs))},
        )
        for key in ("one", "two")
    ]
    (tmp_path / "elsewhere").mkdir()
    graph = tmp_path / "elsewhere" / "adapters.onnx"
    graph.write_bytes(with_adapters(source.graph, (MIX,), source.variant.io))
    runner.open_adapters(graph, AdapterStack((MIX,), loaded))
    adapters = ("one", None, "two", "one", None, None)
    wanted = step(runner, running(runner, adapters))
    sequences = running(runner, adapters)
    for part in parts:
        got = step(runner, [sequences[row] for row in part])
        np.testing.assert_allclose(got, wanted[part], atol=2e-5)
    np.testing.assert_array_equal(step(runner, sequences), wanted)


def test_copies_are_made_once_and_what_follows_may_be_run_again(
    runner: Executor, near: float
) -> None:
    sequences = running(runner)
    wanted = step(runner, sequences)
    runner.copy((KvSwap(0, 5, 10), KvCopy(1, 3, 6)))
    sequences[0].row, sequences[5].row, sequences[1].row = 5, 0, 3
    moved = [sequences[5], sequences[1], sequences[0]]
    first = step(runner, moved)
    np.testing.assert_array_equal(step(runner, moved), first)
    np.testing.assert_allclose(first, wanted[[5, 1, 0]], atol=near, rtol=0)


def test_prompts_and_guesses_may_be_read_again(runner: Executor, near: float) -> None:
    sequences = [prompt(row) for row in range(3)]
    wanted = runner.run(reading(sequences)).array.copy()
    np.testing.assert_array_equal(runner.run(reading(sequences)).array, wanted)
    np.testing.assert_allclose(
        runner.run(reading(sequences[1:2])).array, wanted[1:2], atol=near, rtol=0
    )
    np.testing.assert_allclose(
        runner.run(reading(sequences[::2], start=2)).array, wanted[::2], atol=near, rtol=0
    )
    one = running(runner)[4]
    check = StepPlan((), (), (one,), draft=(1, 2, 3))
    guessed = runner.run(check).array.copy()
    assert guessed.shape == (4, VOCABULARY)
    np.testing.assert_array_equal(runner.run(check).array, guessed)
    np.testing.assert_allclose(step(runner, [one]), guessed[:1], atol=near, rtol=0)


def test_a_cleared_row_holds_zeros_and_its_neighbours_what_they_did(
    runner: Executor, near: float
) -> None:
    sequences = running(runner)
    wanted = step(runner, sequences)
    held = [row.copy() for pair in runner._kv.layers for row in pair]  # type: ignore[attr-defined]
    runner.clear(2, 10_000)
    for before, now in zip(
        held,
        (row for pair in runner._kv.layers for row in pair),  # type: ignore[attr-defined]
        strict=True,
    ):
        assert before[2].any()
        assert not now[2].any()
        np.testing.assert_array_equal(np.delete(now, 2, axis=0), np.delete(before, 2, axis=0))
    others = sequences[:2] + sequences[3:]
    np.testing.assert_allclose(
        step(runner, others), np.delete(wanted, 2, axis=0), atol=near, rtol=0
    )
