"""Prefix reuse and preemption with the real model: what is reused or interrupted reads the same."""

from __future__ import annotations

import time
from collections.abc import Sequence as Many
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.api import (
    Delta,
    Event,
    Finished,
    Generate,
    Priority,
    Request,
    Sampling,
    Started,
    is_terminal,
)
from nsedge.runtime.decode.engine import Engine
from nsedge.runtime.decode.plan import KvCopy, KvSwap, StepPlan
from nsedge.runtime.decode.policy import Policy
from nsedge.runtime.decode.sampling.logits import Logits
from nsedge.runtime.decode.sampling.sampler import Sampler
from nsedge.runtime.decode.scheduler import Scheduler
from nsedge.runtime.decode.slots import Slots
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting.admission import make_job
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.hosting.text import TextModel, load, reuse_of
from nsedge.runtime.settings import EngineSettings, PrefixReuse

pytestmark = pytest.mark.integration
SLOTS = 3
STORY = " ".join(
    f"On day {n} the keeper wrote that the lamp was lit at {n % 12} and the sea was calm."
    for n in range(5)
)


class Recorder:
    """Keeps the logits from which each first token is chosen."""

    def __init__(self, resident: TextModel) -> None:
        self._executor = resident.executor
        self.first: list[NDArray[np.float32]] = []

    def run(self, plan: StepPlan) -> Logits:
        logits = self._executor.run(plan)
        self.first += [row.copy() for row in logits.array[len(plan.decode) :]]
        return logits

    def copy(self, copies: Many[KvCopy | KvSwap]) -> None:
        self._executor.copy(copies)

    def clear(self, row: int, tokens: int) -> None:
        self._executor.clear(row, tokens)

    def recover(self) -> None:
        self._executor.recover()


class Scene:
    """The real model under an engine that is stepped from here."""

    def __init__(
        self,
        resident: TextModel,
        reuse: PrefixReuse = PrefixReuse.EXACT,
        *,
        slots: int = SLOTS,
    ) -> None:
        self.resident = resident
        self.recorder = Recorder(resident)
        self.events: dict[str, list[Event]] = {}
        self.scheduler = Scheduler(
            slots=Slots(count=slots), policy=Policy(max_waiting=64, prefix_reuse=reuse)
        )
        self.engine = Engine(
            runner=self.recorder,
            scheduler=self.scheduler,
            sampler=Sampler(end_ids=resident.manifest.eos_token_ids),
            deliver=_fan_out,
            clock=time.monotonic,
        )

    def submit(
        self,
        name: str,
        text: str,
        sampling: Sampling,
        *,
        priority: Priority = Priority.NORMAL,
    ) -> None:
        self.events[name] = []
        task = Generate(text=text, sampling=sampling)
        request = Request(
            request_id=name,
            model=self.resident.manifest.name,
            task=task,
            priority=priority,
        )
        job = make_job(
            request,
            self.resident,
            prompt_ids=self.resident.prompts.read(task),
            submitted_s=time.monotonic(),
            emit=self.events[name].append,
        )
        self.engine.submit(job)

    def step(self) -> None:
        self.engine.drain_inbox(wait=False)
        self.engine.step()
        self.scheduler.check()

    def run(self) -> None:
        self.step()
        while not self.scheduler.idle:
            self.step()

    def text(self, name: str) -> str:
        return "".join(e.text for e in self.events[name] if isinstance(e, Delta))

    def finished(self, name: str) -> Finished:
        last = self.events[name][-1]
        assert isinstance(last, Finished), last
        return last


def _fan_out(batch: list[tuple[Emit, Event]]) -> None:
    for emit, event in batch:
        emit(event)


@pytest.fixture(scope="module")
def resident(starter_bundle: Path) -> TextModel:
    return load(
        starter_bundle,
        Host(
            settings=EngineSettings(slots=SLOTS, context_tokens=1024),
            deliver=_fan_out,
            clock=time.monotonic,
        ),
    )


def greedy(max_tokens: int) -> Sampling:
    return Sampling(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)


def sampled(max_tokens: int) -> Sampling:
    return Sampling(temperature=0.9, top_p=0.95, seed=11, max_tokens=max_tokens, ignore_eos=True)


def same(left: NDArray[np.float32], right: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(left, right, rtol=0, atol=1e-4)
    assert left.argmax() == right.argmax()


def test_logits_after_a_reused_prefix_are_those_of_a_cold_start(resident: TextModel) -> None:
    """In the same row, from a row that runs, and from one that is kept for its own sake."""
    tails = (" The wind", " A gull", " The wind rose")
    cold = Scene(resident, PrefixReuse.OFF)
    warm = Scene(resident)
    for scene in (cold, warm):
        scene.submit("0", STORY + tails[0], greedy(12))
        while len(scene.recorder.first) < 1:
            scene.step()
        for n in (1, 2):
            scene.submit(f"{n}", STORY + tails[n], greedy(6))
        scene.run()
    used = [warm.finished(f"{n}").usage for n in range(3)]
    assert used[0].cached_tokens == 0
    for usage in used[1:]:
        assert usage.prompt_tokens - 40 < usage.cached_tokens < usage.prompt_tokens
    assert all(cold.finished(f"{n}").usage.cached_tokens == 0 for n in range(3))
    for left, right in zip(cold.recorder.first, warm.recorder.first, strict=True):
        same(left, right)
    for n in range(3):
        assert warm.text(f"{n}") == cold.text(f"{n}")


def test_a_conversation_that_grows_goes_on_from_its_prompt(resident: TextModel) -> None:
    cold, warm = played_conversation(resident, PrefixReuse.EXACT)
    same(cold.recorder.first[-1], warm.recorder.first[-1])
    assert warm.text("next turn") == cold.text("next turn")
    read = warm.finished("turn").usage.prompt_tokens
    assert read - 33 <= warm.finished("next turn").usage.cached_tokens <= read


def test_or_from_its_output_with_the_fidelity_of_the_scheme(resident: TextModel) -> None:
    cold, warm = played_conversation(resident, PrefixReuse.FULL)
    if reuse_of(resident.variant, PrefixReuse.EXACT) is PrefixReuse.FULL:
        same(cold.recorder.first[-1], warm.recorder.first[-1])
    left, right = (
        log_softmax(scene.recorder.first[-1].astype(np.float64)) for scene in (cold, warm)
    )
    assert (np.exp(left) * (left - right)).sum() < 0.02
    read = warm.finished("turn").usage.prompt_tokens
    assert warm.finished("next turn").usage.cached_tokens > read


def played_conversation(resident: TextModel, reuse: PrefixReuse) -> tuple[Scene, Scene]:
    """The second turn of a conversation, cold and after its first turn."""
    cold, warm = Scene(resident, PrefixReuse.OFF), Scene(resident, reuse)
    warm.submit("turn", STORY, greedy(40))
    warm.run()
    grown = STORY + warm.text("turn") + " And then"
    for scene in (cold, warm):
        scene.submit("next turn", grown, greedy(8))
        scene.run()
    return cold, warm


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


@pytest.mark.parametrize("sampling", [greedy(24), sampled(24)], ids=["greedy", "sampled"])
def test_an_interrupted_request_reads_as_if_it_had_not_been(
    resident: TextModel, sampling: Sampling
) -> None:
    alone = Scene(resident)
    alone.submit("batch", STORY, sampling)
    alone.run()

    scene = Scene(resident, slots=1)
    scene.submit("batch", STORY, sampling, priority=Priority.BATCH)
    for n in range(2):
        told = len(scene.text("batch"))
        while len(scene.text("batch")) < told + 30:
            scene.step()
        scene.submit(f"now {n}", "What is the time?", greedy(4), priority=Priority.INTERACTIVE)
    scene.run()
    assert scene.engine.stats(slots=1, capacity=1024).preemptions == 2
    assert scene.text("batch") == alone.text("batch")
    tokens = [
        [token for event in played.events["batch"] if isinstance(event, Delta)
         for token in event.token_ids]
        for played in (scene, alone)
    ]  # fmt: skip
    assert tokens[0] == tokens[1]
    events = scene.events["batch"]
    assert [type(event) for event in events].count(Started) == 1
    assert [event for event in events if is_terminal(event)] == [events[-1]]
    assert scene.finished("batch").usage == alone.finished("batch").usage
