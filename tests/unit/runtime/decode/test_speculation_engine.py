"""Decoding by guesses in the engine: the same tokens in fewer steps, and every limit kept."""

from __future__ import annotations

import pytest

from nsedge.api import Delta, Finished, FinishReason
from tests.unit.rig import END, VOCAB, Letters, Rig, continuation

ROUND = 7
PROMPT = tuple(range(20, 20 + 2 * ROUND))


def around(tokens: list[int]) -> int:
    """A model that says what stood `ROUND` tokens before."""
    return tokens[-ROUND]


def answered(rig: Rig, name: str = "a") -> tuple[list[int], Finished]:
    deltas = [event for event in rig.events[name] if isinstance(event, Delta)]
    last = rig.events[name][-1]
    assert isinstance(last, Finished)
    assert [delta.seq for delta in deltas] == list(range(len(deltas)))
    return [token for delta in deltas for token in delta.token_ids], last


def steps_of(rig: Rig) -> int:
    return rig.engine.stats(slots=4, capacity=100).steps


def repeating(
    max_tokens: int,
    *,
    lookup: bool,
    end_at: int | None = None,
    min_tokens: int = 0,
    stop: tuple[str, ...] = (),
) -> tuple[Rig, list[int], Finished]:
    """The answer of a model that repeats itself, or ends at one place."""
    rig = Rig()
    rig.model.says = lambda tokens: END if len(tokens) == end_at else around(tokens)
    rig.submit("a", PROMPT, max_tokens, lookup=lookup, min_tokens=min_tokens, stop=stop)
    rig.run()
    return (rig, *answered(rig))


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 4, 10, 41, 60])
def test_the_same_tokens_come_and_not_one_more_than_wanted(max_tokens: int) -> None:
    plain, ids, finished = repeating(max_tokens, lookup=False)
    guessed, guessed_ids, guessed_finished = repeating(max_tokens, lookup=True)
    assert guessed_ids == ids
    assert len(ids) == max_tokens
    assert guessed_finished.usage == finished.usage
    if max_tokens >= 41:
        assert steps_of(guessed) < 0.5 * steps_of(plain)


@pytest.mark.parametrize("end_at", range(len(PROMPT) + 8, len(PROMPT) + 24))
def test_an_end_among_the_guesses_ends_the_answer(end_at: int) -> None:
    _, ids, finished = repeating(60, lookup=True, end_at=end_at)
    assert ids == repeating(60, lookup=False, end_at=end_at)[1]
    assert finished.reason is FinishReason.STOP


def test_a_stop_string_among_the_guesses_ends_the_answer() -> None:
    stop = (Letters().push(PROMPT[3]) + Letters().push(PROMPT[4]),)
    _, ids, finished = repeating(60, lookup=True, stop=stop)
    _, plain, plain_finished = repeating(60, lookup=False, stop=stop)
    assert (ids, finished.stop) == (plain, plain_finished.stop)


def test_each_guess_is_held_to_min_tokens() -> None:
    end_at = len(PROMPT) + 14
    _, ids, _ = repeating(60, lookup=True, end_at=end_at, min_tokens=30)
    assert ids == repeating(60, lookup=False, end_at=end_at, min_tokens=30)[1]


def test_wrong_guesses_change_nothing() -> None:
    """The model of arithmetic never says the same after the same three tokens but by chance."""
    prompt = (1, 2, 3, 4) * 6
    rig = Rig()
    rig.submit("a", prompt, 50, ignore_end=True, lookup=True)
    rig.run()
    assert answered(rig)[0] == continuation(prompt, 50, ignore_end=True)


def test_beside_others_nothing_is_guessed_and_alone_again_it_is() -> None:
    rig = Rig()
    rig.model.says = around
    rig.submit("a", PROMPT, 200, lookup=True)
    rig.submit("b", tuple(VOCAB - 1 - token for token in PROMPT), 20, lookup=True)
    most = {1: 0, 2: 0}
    while len(rig.ended) < 2:
        before = len(rig.events["a"])
        rows = rig.scheduler.running + rig.scheduler.waiting
        rig.step()
        told = [event for event in rig.events["a"][before:] if isinstance(event, Delta)]
        if rows in most:
            most[rows] = max(most[rows], len(told))
    assert most[2] == 1
    assert most[1] > 1
    assert answered(rig)[0] == [PROMPT[ROUND + i % ROUND] for i in range(200)]


def test_a_check_on_a_model_that_is_gone_ends_what_ran_and_the_engine_goes_on() -> None:
    rig = Rig()
    rig.model.says = around
    rig.submit("a", PROMPT, 100, lookup=True)
    for _ in range(8):
        rig.step()
    rig.model.is_dead = True
    rig.step()
    rig.submit("b", PROMPT, 30, lookup=True)
    rig.run()
    assert rig.ended == ["a", "b"]
    assert answered(rig, "b")[0] == [PROMPT[ROUND + i % ROUND] for i in range(30)]
