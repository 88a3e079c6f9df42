"""Other threads in the midst of an answer: the same tokens."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from nsedge.api import Event, Generate, Request, Sampling
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting.admission import make_job
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.hosting.text import TextModel, load
from nsedge.runtime.settings import EngineSettings

pytestmark = pytest.mark.integration
TOKENS = 24
STEPS = 64
"""More than three prompts and answers take."""


@pytest.fixture(scope="module")
def resident(starter_bundle: Path) -> TextModel:
    settings = EngineSettings(slots=4, context_tokens=256, threads=2, prefill_chunk_tokens=16)
    return load(starter_bundle, Host(settings=settings, deliver=_deliver, clock=time.monotonic))


def test_answers_do_not_depend_on_when_the_threads_changed(resident: TextModel) -> None:
    settled = answers(resident, switches={})
    changed = answers(resident, switches={2: 1, 9: 2, 15: 1})
    assert changed == settled
    assert all(len(ids) == TOKENS for ids in settled)


def answers(resident: TextModel, *, switches: dict[int, int]) -> list[tuple[int, ...]]:
    """What three streams say, sampled, where `switches` gives the new threads before a step."""
    texts = ("The sea is", "A list of three colours:", "Once upon a time " * 6)
    outputs = [_submit(resident, text, seed) for seed, text in enumerate(texts)]
    for step in range(STEPS):
        if step in switches:
            threads = switches[step]
            resident.executor.use(resident.executor.reopen(threads), threads)
        resident.engine.drain_inbox(wait=False)
        resident.engine.step()
    return [tuple(ids) for ids in outputs]


def _submit(resident: TextModel, text: str, seed: int) -> list[int]:
    """The list that the answer's ids will come in."""
    sampling = Sampling(temperature=0.8, seed=seed, ignore_eos=True, max_tokens=TOKENS)
    task = Generate(text=text, sampling=sampling)
    ids: list[int] = []

    def take(event: Event) -> None:
        ids.extend(getattr(event, "token_ids", ()))

    job = make_job(
        Request(request_id=str(seed), model="", task=task),
        resident,
        prompt_ids=resident.prompts.read(task),
        submitted_s=time.monotonic(),
        emit=take,
    )
    resident.engine.submit(job)
    return ids


def _deliver(batch: list[tuple[Emit, Event]]) -> None:
    for emit, event in batch:
        emit(event)
