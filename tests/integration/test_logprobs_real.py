"""Log-probabilities of the real model, against numpy on the logits that its runs leave."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.api import Chat, Delta, Event, Generate, Logprobs, PromptLogprobs, Sampling, Started
from nsedge.core.service import LocalService
from nsedge.runtime.graph.executor import Executor
from tests.integration.test_engine_real import asking, events_of, play, question

pytestmark = pytest.mark.integration
STORY = Generate(text="Once upon a time, there was a lighthouse keeper who")


class Watched:
    """Keeps what every run of an executor leaves, as it was before anything was sampled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs: list[NDArray[np.float32]] = []
        for kind in Executor.__subclasses__():
            self._watch(kind, monkeypatch)

    def _watch(self, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        run = kind.run

        def watched(executor: Executor, plan: Any) -> Any:
            logits = run(executor, plan)
            self.runs.append(logits.array.copy())
            return logits

        monkeypatch.setattr(kind, "run", watched)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    return np.asarray(exact - np.log(np.exp(exact).sum(axis=1, keepdims=True)))


async def told(
    service: LocalService, task: Generate | Chat, sampling: Sampling
) -> tuple[str, list[Logprobs]]:
    deltas = [e for e in await events_of(service, asking(task, sampling)) if isinstance(e, Delta)]
    return "".join(d.text for d in deltas), [one for d in deltas for one in d.logprobs]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.0, max_tokens=12, logprobs=20),
        Sampling(temperature=0.9, top_p=0.9, seed=3, max_tokens=12, logprobs=5),
        Sampling(temperature=0.8, seed=4, repetition_penalty=1.3, max_tokens=12, logprobs=100),
    ],
    ids=["greedy", "nucleus", "penalised"],
)
def test_they_are_those_of_the_models_own_logits(
    starter_bundle: Path, monkeypatch: pytest.MonkeyPatch, sampling: Sampling
) -> None:
    async def scene(service: LocalService) -> None:
        watched = Watched(monkeypatch)
        text, likely = await told(service, STORY, sampling)
        exact = log_softmax(np.concatenate(watched.runs))[: len(likely)]
        assert len(likely) == 12
        ids = [one.id for one in likely]
        np.testing.assert_allclose(
            [one.logprob for one in likely], exact[range(12), ids], atol=1e-5
        )
        for one, row in zip(likely, exact, strict=True):
            best = np.argsort(-row, kind="stable")[: sampling.logprobs]
            np.testing.assert_allclose([top.logprob for top in one.top], row[best], atol=1e-5)
            assert one.rank == 1 + np.count_nonzero(row > row[one.id])
        octets = b"".join(one.text.encode() if one.raw is None else one.raw for one in likely)
        assert octets.decode(errors="replace") == text

    play(starter_bundle, scene, slots=4, context_tokens=256)


def test_asking_changes_no_text_and_company_no_number(starter_bundle: Path) -> None:
    sampling = Sampling(temperature=0.9, seed=7, max_tokens=16, ignore_eos=True)

    async def scene(service: LocalService) -> None:
        plain, none = await told(service, STORY, sampling)
        asked = Sampling(temperature=0.9, seed=7, max_tokens=16, ignore_eos=True, logprobs=4)
        text, alone = await told(service, STORY, asked)
        assert (text, none) == (plain, [])
        others = [
            told(service, question(f"Count to {n}."), Sampling(seed=n, max_tokens=20, logprobs=n))
            for n in range(1, 7)
        ]
        (_, among), *_ = await asyncio.gather(told(service, STORY, asked), *others)
        assert among == alone

    play(starter_bundle, scene, slots=8, context_tokens=256)


def test_guesses_tell_what_single_steps_tell(starter_bundle: Path) -> None:
    task = question("Say this again, and nothing else: red green blue red green blue red green")

    async def scene(service: LocalService) -> None:
        asked = Sampling(temperature=0.0, max_tokens=24, logprobs=3)
        plain_text, plain = await told(service, task, asked)
        text, guessed = await told(
            service, task, Sampling(temperature=0.0, max_tokens=24, logprobs=3, prompt_lookup=True)
        )
        assert text == plain_text
        assert [one.id for one in guessed] == [one.id for one in plain]
        np.testing.assert_allclose(
            [one.logprob for one in guessed], [one.logprob for one in plain], atol=1e-3
        )

    play(starter_bundle, scene, slots=2, context_tokens=256)


# Of prompts.

LONG = Generate(
    text=" ".join(f"The keeper counted {n} ships, and {n * 7} gulls." for n in range(12))
)


async def scored(
    service: LocalService, task: Generate | Chat, sampling: Sampling
) -> tuple[list[Logprobs], list[Event]]:
    events = await events_of(service, asking(task, sampling))
    found = [event for event in events if isinstance(event, PromptLogprobs)]
    return [one for event in found for one in event.logprobs], events


@pytest.mark.parametrize("task", [STORY, LONG, question("Name three rivers.")], ids=type)
def test_those_of_a_prompt_are_those_of_the_models_own_logits(
    starter_bundle: Path, monkeypatch: pytest.MonkeyPatch, task: Generate | Chat
) -> None:
    async def scene(service: LocalService) -> None:
        watched = Watched(monkeypatch)
        told, events = await scored(
            service, task, Sampling(temperature=0.0, max_tokens=1, prompt_logprobs=5)
        )
        assert isinstance(events[0], Started)
        assert len(told) == events[0].prompt_tokens
        exact = log_softmax(np.concatenate(watched.runs))
        assert len(exact) == len(told)
        ids = [one.id for one in told[1:]]
        np.testing.assert_allclose(
            [one.logprob for one in told[1:]], exact[range(len(ids)), ids], atol=1e-5
        )
        for one, row in zip(told[1:], exact, strict=False):
            best = np.argsort(-row, kind="stable")[:5]
            np.testing.assert_allclose([top.logprob for top in one.top], row[best], atol=1e-5)
        if isinstance(task, Generate):
            assert "".join(one.text for one in told) == task.text

    play(starter_bundle, scene, slots=2, context_tokens=512)


def test_what_was_written_is_as_likely_when_it_is_read(starter_bundle: Path) -> None:
    async def scene(service: LocalService) -> None:
        text, written = await told(
            service, STORY, Sampling(temperature=0.0, max_tokens=16, ignore_eos=True, logprobs=3)
        )
        both = Generate(text=STORY.text + text)
        read, _ = await scored(service, both, Sampling(max_tokens=1, prompt_logprobs=3))
        assert [one.id for one in read[-16:]] == [one.id for one in written]
        np.testing.assert_allclose(
            [one.logprob for one in read[-16:]], [one.logprob for one in written], atol=1e-3
        )

    play(starter_bundle, scene, slots=2, context_tokens=256)


def test_a_prompt_that_is_told_changes_no_text_of_anybody(starter_bundle: Path) -> None:
    plain = Sampling(temperature=0.9, seed=7, max_tokens=16, ignore_eos=True)

    async def scene(service: LocalService) -> None:
        wanted = [await told(service, task, plain) for task in (LONG, STORY)]
        asked = Sampling(temperature=0.9, seed=7, max_tokens=16, ignore_eos=True, prompt_logprobs=0)
        found = await asyncio.gather(told(service, LONG, asked), told(service, STORY, plain))
        assert found == wanted

    play(starter_bundle, scene, slots=4, context_tokens=512)
