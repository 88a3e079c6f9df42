"""The decoding of captions and of speech is no stream: text comes before it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nsedge.runtime.hosting.caption import CaptionModel
from nsedge.runtime.hosting.speech import SpeechModel
from nsedge.runtime.machine.arbiter import Arbiter, Rank
from tests.fakes import FakeClock


@pytest.mark.parametrize("kind", [CaptionModel, SpeechModel])
def test_what_is_written_about_an_input_is_other_work(kind: Any) -> None:
    clock = FakeClock()
    arbiter = Arbiter(clock=clock)
    model = kind.__new__(kind)  # nothing was opened for it
    model.name = "m"
    model.host = SimpleNamespace(
        settings=SimpleNamespace(max_queue=4, prefill_chunk_tokens=16, slots=2),
        arbiter=lambda device: arbiter,
        clock=clock,
    )
    model.variant = SimpleNamespace(io=SimpleNamespace(segments=None), device="cpu")
    model.parts = SimpleNamespace(executor=None)
    engine = model.make_engine(deliver=lambda batch: None, end_ids=(1,), stretch=2.0)
    with engine._turn:
        clock.advance(0.01)
    assert arbiter.seat(Rank.OTHERS).slice_s() is None  # nobody takes it for a stream's step
    assert {rank: waits.count for rank, waits in arbiter.waits().items()} == {
        Rank.STREAMS: 0,
        Rank.OTHERS: 1,
    }
