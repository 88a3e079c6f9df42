"""Beam searches that are cancelled, late, preempted, or cannot be computed."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from nsedge.api import (
    ChoiceFailed,
    ChoiceFinished,
    Event,
    Failed,
    Finished,
    FinishReason,
    Priority,
    Started,
)
from nsedge.runtime.decode.sampling.row import SamplerRow, TokenRules
from nsedge.runtime.decode.sequence import Sequence
from tests.unit.rig import END, GREEDY, VOCAB, Rig
from tests.unit.runtime.decode.wanted_beams import PROMPT, Wanted, texts_of, uncertain, without_end


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2, 4, 9])
def test_cancel_frees_all_rows_at_once(mixed: bool, steps: int) -> None:
    rig = uncertain(Rig(slots=4, mixed=mixed))
    wanted = Wanted(prompt=PROMPT, max_tokens=50, beams=4, early_stopping="never")
    job = rig.submit("a", PROMPT, 50, beams=4, ending=wanted.ending(), ignore_end=True)
    for _ in range(steps):
        rig.step()
    rig.engine.cancel(job)
    rig.step()
    last = rig.events["a"][-1]
    assert isinstance(last, Finished)
    assert last.reason is FinishReason.CANCELLED
    assert rig.scheduler.running == 0
    rig.submit("next", (7,), 3, ignore_end=True)
    rig.run()
    assert isinstance(rig.events["next"][-1], Finished)


@pytest.mark.parametrize("how", ["finished", "cancelled", "failed", "late", "refused"])
def test_its_sequences_are_gone_with_its_end(how: str) -> None:
    """What they hold is not to stay until garbage is next collected."""

    def held() -> int:
        return sum(isinstance(one, Sequence) for one in gc.get_objects())

    gc.disable()
    try:
        before = held()
        rig = uncertain(Rig(max_waiting=0 if how == "refused" else 8))
        job = rig.submit("a", PROMPT, 5, beams=3, n=2, deadline_s=0.035 if how == "late" else None)
        rig.step()
        if how == "cancelled":
            rig.engine.cancel(job)
        if how == "failed":
            rig.model.spread = lambda tokens: np.full(VOCAB, np.nan, np.float32)
        rig.run()
        rig.step()
        del job
        assert rig.ended == ["a"]
        assert held() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("mixed", [False, True])
def test_a_batch_search_gives_way_as_a_whole_and_goes_on(mixed: bool) -> None:
    rig = uncertain(Rig(slots=4, mixed=mixed))
    wanted = Wanted(prompt=PROMPT, max_tokens=12, beams=3, early_stopping="never")
    rig.submit(
        "search",
        PROMPT,
        12,
        beams=3,
        ending=wanted.ending(),
        row=wanted.row(),
        priority=Priority.BATCH,
    )
    for _ in range(8):
        rig.step()
    for name in ("i1", "i2"):
        rig.submit(name, (5, 6), 4, ignore_end=True, priority=Priority.INTERACTIVE)
    rig.run()
    assert rig.scheduler.preemptions == 1
    assert texts_of(rig, "search") == without_end(wanted.best()[:1])
    assert [isinstance(event, Started) for event in rig.events["search"]].count(True) == 1


def test_an_interactive_search_takes_all_rows_that_it_lacks_or_none() -> None:
    rig = uncertain(Rig(slots=4))
    for k in range(3):
        rig.submit(f"b{k}", (3, k), 30, ignore_end=True, priority=Priority.BATCH)
    rig.submit("other", (4, 4), 9, ignore_end=True)
    for _ in range(12):
        rig.step()
    wanted = Wanted(prompt=PROMPT, max_tokens=3, beams=4)
    rig.submit("s", PROMPT, 3, beams=4, ending=wanted.ending(), priority=Priority.INTERACTIVE)
    while not any(isinstance(event, Finished) for event in rig.events["other"]):
        assert rig.scheduler.preemptions == 0
        rig.step()
    rig.run()
    assert rig.scheduler.preemptions == 3
    assert texts_of(rig, "s") == without_end(wanted.best()[:1])


@pytest.mark.parametrize("mixed", [False, True])
def test_one_beam_that_cannot_be_computed_fails_the_search_alone(mixed: bool) -> None:
    rig = uncertain(Rig(slots=5, mixed=mixed))
    wanted = Wanted(prompt=PROMPT, max_tokens=9, beams=3, early_stopping="never")
    third = len(PROMPT) + 3
    rig.model.raises = lambda tokens: len(tokens) == third and tuple(tokens[:11]) == PROMPT
    rig.submit("stream", (5, 6), 20, ignore_end=True)
    wanted.ask(rig, "s")
    rig.run()
    last = rig.events["s"][-1]
    assert isinstance(last, Failed)
    assert last.code == "computation_failure"
    assert len(rig.events["s"]) == 2
    assert isinstance(rig.events["stream"][-1], Finished)
    assert len(rig.model.cleared) == 3


def test_logits_that_are_no_numbers_fail_the_search() -> None:
    rig = uncertain(Rig())
    plain = rig.model.spread
    rig.model.spread = lambda tokens: (
        np.full(VOCAB, np.nan, np.float32) if len(tokens) == len(PROMPT) + 2 else plain(tokens)
    )
    Wanted(prompt=PROMPT, max_tokens=9, beams=2, early_stopping="never").ask(rig, "s")
    rig.run()
    last = rig.events["s"][-1]
    assert isinstance(last, Failed)
    assert last.code == "computation_failure"


def test_a_step_after_which_nothing_runs_ends_it_once() -> None:
    rig = uncertain(Rig())
    Wanted(prompt=PROMPT, max_tokens=9, beams=3, early_stopping="never").ask(rig, "s")
    for _ in range(5):
        rig.step()
    rig.model.is_dead = True
    rig.step()
    last = rig.events["s"][-1]
    assert isinstance(last, Failed)
    assert last.code == "engine_failure"
    rig.submit("next", (7,), 3, ignore_end=True)
    rig.run()
    assert isinstance(rig.events["next"][-1], Finished)


def test_a_deadline_ends_it_with_all_rows() -> None:
    rig = uncertain(Rig(slots=3))
    wanted = Wanted(prompt=PROMPT, max_tokens=90, beams=3, early_stopping="never")
    rig.submit("s", PROMPT, 90, beams=3, ending=wanted.ending(), ignore_end=True, deadline_s=0.1)
    rig.run()
    last = rig.events["s"][-1]
    assert isinstance(last, Failed)
    assert last.code == "deadline_exceeded"
    assert rig.scheduler.running == 0


def test_where_fewer_texts_can_be_found_than_are_wanted_the_others_fail() -> None:
    rules = TokenRules(allowed=(5, END))
    rig = uncertain(Rig())
    row = SamplerRow(GREEDY, rules=rules, vocabulary=VOCAB)
    rig.submit("s", PROMPT, 1, beams=4, n=4, row=row)
    rig.run()
    ends: list[Event] = [e for e in rig.events["s"] if isinstance(e, ChoiceFinished | ChoiceFailed)]
    assert [isinstance(end, ChoiceFinished) for end in ends] == [True, True, False, False]
    failed = ends[-1]
    assert isinstance(failed, ChoiceFailed)
    assert failed.message == "the search found only 2 answers"
    assert isinstance(rig.events["s"][-1], Finished)


def test_where_no_token_may_come_it_fails_with_what_forbids_them() -> None:
    rules = TokenRules(allowed=(5,), banned=(5,))
    rig = uncertain(Rig())
    rig.submit("s", PROMPT, 4, beams=2, row=SamplerRow(GREEDY, rules=rules, vocabulary=VOCAB))
    rig.run()
    last = rig.events["s"][-1]
    assert isinstance(last, Failed)
    assert last.param == "allowed_token_ids"
