"""Texts drawn in any settings are the same alone, beside others, interrupted and guessed."""

from __future__ import annotations

import logging
import random
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.api import Delta, Failed, Finished, Priority
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow, TokenRules
from tests.unit.rig import VOCAB, Rig
from tests.unit.runtime.decode.sampling.settings import some_row

TOKENS = 40
SEEDS = range(24)


def spread(tokens: list[int]) -> NDArray[Any]:
    """Logits by the newest token, so that texts repeat themselves."""
    rng = np.random.default_rng(zlib.crc32(bytes(tokens[-1:])))
    logits = rng.standard_normal(VOCAB).astype(np.float32) * 2
    logits[rng.integers(10, 30)] += 14.0
    return logits


def prompt_of(seed: int) -> tuple[int, ...]:
    return tuple(random.Random(seed).randrange(VOCAB) for _ in range(12))


def row_of(seed: int) -> SamplerRow:
    return some_row(random.Random(seed), VOCAB, prompt=list(prompt_of(seed)))


def submit(rig: Rig, seed: int, **how: Any) -> None:
    row = row_of(seed)
    rig.submit(f"r{seed}", prompt_of(seed), TOKENS, ignore_end=True, row=row, **how)


def said(rig: Rig, seed: int) -> list[int]:
    events = rig.events[f"r{seed}"]
    assert isinstance(events[-1], Finished)
    return [token for event in events if isinstance(event, Delta) for token in event.token_ids]


def new_rig(**how: Any) -> Rig:
    rig = Rig(max_waiting=64, **how)
    rig.model.spread = spread
    return rig


def alone(seed: int) -> list[int]:
    rig = new_rig()
    submit(rig, seed)
    rig.run()
    return said(rig, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_guesses_change_nothing(seed: int) -> None:
    rig = new_rig()
    submit(rig, seed, lookup=True)
    rig.run()
    assert said(rig, seed) == alone(seed)


def test_some_of_these_guesses_are_taken() -> None:
    steps = {True: 0, False: 0}
    for lookup in steps:
        for seed in SEEDS:
            rig = new_rig()
            submit(rig, seed, lookup=lookup)
            rig.run()
            steps[lookup] += rig.engine.stats(slots=4, capacity=100).steps
    assert steps[True] < 0.9 * steps[False]


@pytest.mark.parametrize("mixed", [False, True])
def test_company_changes_nothing(mixed: bool) -> None:
    rig = new_rig(mixed=mixed)
    for seed in SEEDS:
        submit(rig, seed)
        rig.step()
    rig.run()
    assert [said(rig, seed) for seed in SEEDS] == [alone(seed) for seed in SEEDS]


def test_an_interruption_changes_nothing() -> None:
    """Batch requests give their slots to interactive ones, and read what they had said again."""
    rig = new_rig(slots=2)
    for seed in SEEDS:
        submit(rig, seed, priority=Priority.BATCH)
    at = random.Random(1)
    for number in range(30):
        for _ in range(at.randrange(1, 8)):
            rig.step()
        name = f"urgent {number}"
        rig.submit(name, (number,), 3, ignore_end=True, priority=Priority.INTERACTIVE)
    rig.run()
    assert rig.scheduler.preemptions > 5
    assert [said(rig, seed) for seed in SEEDS] == [alone(seed) for seed in SEEDS]


def test_where_no_token_may_come_that_is_said_and_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    rig = new_rig()
    rules = TokenRules(allowed=(5, 6))
    params = SamplingParams(temperature=0.0, no_repeat_ngram_size=1)
    row = SamplerRow(params, rules=rules, vocabulary=VOCAB, prompt_ids=[1])
    rig.submit("a", (1,), TOKENS, ignore_end=True, row=row)
    submit(rig, 3)
    rig.run()
    *_, failed = rig.events["a"]
    assert isinstance(failed, Failed)
    assert (failed.code, failed.param) == ("invalid_parameter", "allowed_token_ids")
    assert not failed.retryable
    assert failed.message == (
        "no token may come next under allowed_token_ids and no_repeat_ngram_size"
    )
    (record,) = [one for one in caplog.records if one.getMessage() == failed.message]
    assert record.levelno == logging.INFO  # no fault of the daemon's
    told = [event for event in rig.events["a"] if isinstance(event, Delta)]
    assert sorted(token for delta in told for token in delta.token_ids) == [5, 6]
    assert said(rig, 3) == alone(3)


def test_every_field_that_leaves_no_token_is_named() -> None:
    rig = new_rig()
    everything = tuple(range(VOCAB))
    fields: dict[str, TokenRules] = {
        "banned_token_ids": TokenRules(banned=everything),
        "bad_words": TokenRules(bad_words=tuple((token,) for token in everything)),
        "allowed_token_ids": TokenRules(allowed=(5,), banned=(5,)),
    }
    for name, rules in fields.items():
        row = SamplerRow(SamplingParams(temperature=0.0), rules=rules, vocabulary=VOCAB)
        rig.submit(name, (1,), TOKENS, ignore_end=True, min_tokens=2, row=row)
    rig.run()
    told = {}
    for name in fields:
        failed = rig.events[name][-1]
        assert isinstance(failed, Failed)
        assert (failed.code, failed.param) == ("invalid_parameter", name)
        told[name] = failed.message.removeprefix("no token may come next under ")
    assert told == {
        "banned_token_ids": "banned_token_ids and min_tokens",
        "bad_words": "bad_words and min_tokens",
        "allowed_token_ids": "allowed_token_ids, banned_token_ids and min_tokens",
    }
