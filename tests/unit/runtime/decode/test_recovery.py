"""An executor after a run that failed, and after its files changed."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.bundle.causal_lm import Variant
from nsedge.errors import BundleInvalid
from nsedge.runtime.decode.plan import Chunk, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence, State
from nsedge.runtime.graph.executor import Executor, Source
from nsedge.runtime.graph.executors import open_executor
from tests.unit.tiny_decoder import IO, LAYOUT, VOCABULARY, save, tiny_graph

IDS = (3, 1, 4, 1, 5, 9, 2, 6)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    variant = Variant(name="v", device="cpu", scheme="fp32", graph="model.onnx", io=IO, kv=LAYOUT)
    graph = save(tiny_graph(), tmp_path)
    return Source(
        graph=graph, variant=variant, vocab_size=VOCABULARY, slots=2, capacity=32, threads=1
    )


def read(runner: Executor) -> NDArray[np.float32]:
    """The logits after IDS."""
    sequence = Sequence(prompt_ids=IDS, limits=Limits(max_tokens=1), submitted_s=0.0)
    sequence.move(State.PREFILL)
    return runner.run(StepPlan((), (Chunk(sequence, 0, 0, len(IDS)),), ())).array.copy()


def test_recovering_empties_the_caches_and_opens_another_session(source: Source) -> None:
    runner = open_executor(source)
    wanted, session = read(runner), runner._session
    assert runner.kv_bytes().resident > 0
    runner.recover()
    assert runner.kv_bytes().resident == 0
    assert runner._session is not session
    assert np.array_equal(read(runner), wanted)


def test_what_may_not_be_opened_again_goes_on_with_empty_caches(source: Source) -> None:
    def altered() -> None:
        raise BundleInvalid("the graph was altered")

    runner = open_executor(dataclasses.replace(source, check=altered))
    wanted, session = read(runner), runner._session
    with pytest.raises(BundleInvalid, match="was altered"):
        runner.recover()
    assert runner.kv_bytes().resident == 0
    assert runner._session is session
    assert np.array_equal(read(runner), wanted)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="reads Linux's mappings")
def test_a_session_and_the_next_hold_what_they_read_of_files(source: Source) -> None:
    runner = open_executor(source)
    wanted = read(runner)
    runner.detach()
    next_session = runner.reopen(1)
    for file in source.graph.parent.iterdir():
        os.truncate(file, 0)
    assert np.array_equal(read(runner), wanted)
    runner.use(next_session, 1)
    assert np.array_equal(read(runner), wanted)
