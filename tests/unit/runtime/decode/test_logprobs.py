"""Log-probabilities on their way out of the engine: each with the delta that carries its token."""

from __future__ import annotations

import math

import pytest

from nsedge.api import Delta, Failed, Finished, Logprobs, Priority, PromptLogprobs, Started
from nsedge.runtime.settings import PrefixReuse
from tests.unit.rig import END, VOCAB, Letters, Rig, continuation, next_token

PROMPT = (5, 6, 7, 8, 9)


def height(tokens: list[int]) -> float:
    """Another logit after each length."""
    return 3.0 + len(tokens) % 11


def expected(prompt: tuple[int, ...], said: list[int]) -> list[float]:
    """The log-probabilities of what the model says: one logit is high, all others are 0."""
    heights = [height([*prompt, *said[:place]]) for place in range(len(said))]
    return [one - math.log(math.exp(one) + VOCAB - 1) for one in heights]


def rig_of(**fields: object) -> Rig:
    rig = Rig(**fields)  # type: ignore[arg-type]
    rig.model.logits_after = height
    return rig


def told(rig: Rig, name: str) -> list[Logprobs]:
    """All that was told; each delta tells of its own tokens."""
    deltas = [event for event in rig.events[name] if isinstance(event, Delta)]
    for delta in deltas:
        assert tuple(one.id for one in delta.logprobs) == delta.token_ids
    return [one for delta in deltas for one in delta.logprobs]


@pytest.mark.parametrize("mixed", [False, True])
def test_each_token_has_its_own(mixed: bool) -> None:
    rig = rig_of(mixed=mixed)
    rig.submit("a", PROMPT, 12, logprobs=3)
    rig.submit("b", PROMPT[1:], 12)
    rig.run()
    said = continuation(PROMPT, 12)
    tokens = [token for token in said if token != END]
    likely = told(rig, "a")
    assert [one.id for one in likely] == tokens
    assert [one.logprob for one in likely] == pytest.approx(expected(PROMPT, said)[: len(tokens)])
    assert all(one.rank == 1 and one.text == chr(0x100 + one.id) for one in likely)
    assert all(len(one.top) == 3 and one.top[0].id == one.id for one in likely)
    assert not any(d.logprobs for d in rig.events["b"] if isinstance(d, Delta))


def test_none_of_the_likeliest_may_be_asked_for() -> None:
    rig = rig_of()
    rig.submit("a", PROMPT, 3, logprobs=0)
    rig.run()
    assert [(one.logprob is not None, one.top) for one in told(rig, "a")] == [(True, ())] * 3


def test_what_is_held_back_brings_its_own_with_it() -> None:
    said = continuation(PROMPT, 6)
    letters = [Letters().push(token) for token in said]
    rig = rig_of()
    # A stop string begins with the second and third token, and never comes.
    rig.submit("a", PROMPT, 6, logprobs=0, stop=(letters[1] + letters[2] + "never",))
    rig.run()
    deltas = [event for event in rig.events["a"] if isinstance(event, Delta)]
    assert [len(delta.token_ids) for delta in deltas] == [1, 3, 1, 1]
    assert [one.logprob for one in told(rig, "a")] == pytest.approx(expected(PROMPT, said))


def test_the_tokens_of_a_stop_string_tell_theirs() -> None:
    said = continuation(PROMPT, 6)
    letters = [Letters().push(token) for token in said]
    rig = rig_of()
    rig.submit("a", PROMPT, 6, logprobs=0, stop=(letters[1] + letters[2],))
    rig.run()
    assert [one.logprob for one in told(rig, "a")] == pytest.approx(expected(PROMPT, said)[:3])


def test_guesses_that_were_right_tell_theirs() -> None:
    prompt = tuple(range(20, 34))
    seen = []
    for lookup in (False, True):
        rig = rig_of()
        rig.model.says = lambda tokens: tokens[-7]
        rig.submit("a", prompt, 40, logprobs=2, lookup=lookup)
        rig.run()
        seen.append((told(rig, "a"), rig.model.runs))
    (plain, plain_runs), (guessed, guessed_runs) = seen
    assert guessed == plain
    assert len(plain) == 40
    assert guessed_runs < plain_runs


def test_after_giving_way_it_goes_on_where_it_was() -> None:
    rig = rig_of(slots=1)
    rig.submit("a", PROMPT, 12, logprobs=1, priority=Priority.BATCH, ignore_end=True)
    for _ in range(6):
        rig.step()
    rig.submit("b", PROMPT[1:], 2, priority=Priority.INTERACTIVE)
    rig.run()
    assert rig.ended == ["b", "a"]
    assert rig.scheduler.preemptions == 1
    said = continuation(PROMPT, 12, ignore_end=True)
    assert [one.logprob for one in told(rig, "a")] == pytest.approx(expected(PROMPT, said))


def test_an_end_of_sequence_is_not_among_them() -> None:
    rig = rig_of()
    rig.model.says = lambda tokens: END if len(tokens) == 8 else tokens[-1]
    rig.submit("a", PROMPT, 12, logprobs=0)
    rig.run()
    last = rig.events["a"][-1]
    assert isinstance(last, Finished)
    assert (len(told(rig, "a")), last.usage.completion_tokens) == (3, 4)


# Of prompts.

LONG = tuple(1 + n % (VOCAB - 1) for n in range(90))


def scored(rig: Rig, name: str) -> list[Logprobs]:
    """What was told of a prompt, before anything that was written."""
    kinds = [type(event) for event in rig.events[name]]
    found = [event for event in rig.events[name] if isinstance(event, PromptLogprobs)]
    assert kinds[: len(found) + 1] == [Started, *[PromptLogprobs] * len(found)]
    told = []
    for event in found:
        assert event.first == len(told)
        told += event.logprobs
    return told


def of_prompt(prompt: tuple[int, ...]) -> list[float]:
    """What this model finds of a prompt's tokens but the first."""
    found = []
    for place in range(1, len(prompt)):
        before = list(prompt[:place])
        own = height(before) if prompt[place] == next_token(before) else 0.0
        found.append(own - math.log(math.exp(height(before)) + VOCAB - 1))
    return found


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("prompt", [LONG, LONG[:2], LONG[:1]], ids=len)
def test_every_token_of_a_prompt_is_told(prompt: tuple[int, ...], mixed: bool) -> None:
    rig = rig_of(mixed=mixed, chunk_tokens=16)
    rig.submit("b", PROMPT, 30, ignore_end=True)
    rig.step()
    rig.submit("a", prompt, 4, prompt_logprobs=2, ignore_end=True)
    rig.submit("c", PROMPT[1:], 30, ignore_end=True)
    rig.run()
    told = scored(rig, "a")
    assert [one.id for one in told] == list(prompt)
    assert (told[0].logprob, told[0].rank, told[0].top) == (None, None, ())
    assert [one.logprob for one in told[1:]] == pytest.approx(of_prompt(prompt))
    assert all(len(one.top) == 2 for one in told[1:])
    for name, asked in (("a", prompt), ("b", PROMPT), ("c", PROMPT[1:])):
        count = 4 if name == "a" else 30
        ids = [i for d in rig.events[name] if isinstance(d, Delta) for i in d.token_ids]
        assert ids == continuation(asked, count, ignore_end=True)
    assert not any(isinstance(event, PromptLogprobs) for event in rig.events["b"])


@pytest.mark.parametrize("reuse", list(PrefixReuse))
def test_a_prompt_that_is_known_is_read_again_where_it_is_to_be_told(reuse: PrefixReuse) -> None:
    rig = rig_of(prefix_reuse=reuse)
    rig.submit("a", LONG, 2)
    rig.run()
    rig.submit("b", LONG, 2, prompt_logprobs=0)
    rig.run()
    assert [one.logprob for one in scored(rig, "b")[1:]] == pytest.approx(of_prompt(LONG))
    last = rig.events["b"][-1]
    assert isinstance(last, Finished)
    assert last.usage.cached_tokens == 0
    rig.submit("c", LONG, 2)
    rig.run()
    last = rig.events["c"][-1]
    assert isinstance(last, Finished)
    assert (last.usage.cached_tokens > 0) == (reuse is not PrefixReuse.OFF)


@pytest.mark.parametrize("steps", [3, 8, 12])
def test_who_gives_way_tells_its_prompt_once(steps: int) -> None:
    rig = rig_of(slots=1, chunk_tokens=20)
    rig.submit("a", LONG, 6, prompt_logprobs=1, priority=Priority.BATCH, ignore_end=True)
    for _ in range(steps):
        rig.step()
    rig.submit("b", PROMPT, 2, priority=Priority.INTERACTIVE)
    rig.run()
    assert rig.scheduler.preemptions == 1
    assert [one.logprob for one in scored(rig, "a")[1:]] == pytest.approx(of_prompt(LONG))
    ids = [i for d in rig.events["a"] if isinstance(d, Delta) for i in d.token_ids]
    assert ids == continuation(LONG, 6, ignore_end=True)


def test_a_prompt_whose_logits_are_no_numbers_fails_alone() -> None:
    rig = rig_of(chunk_tokens=8)
    rig.model.logits_after = lambda tokens: math.nan if len(tokens) == 40 else height(tokens)
    rig.submit("b", PROMPT, 12, ignore_end=True)
    rig.submit("a", LONG, 6, prompt_logprobs=0)
    rig.run()
    last = rig.events["a"][-1]
    assert isinstance(last, Failed)
    assert last.code == "computation_failure"
    assert isinstance(rig.events["b"][-1], Finished)


def test_where_a_step_raises_the_others_prompts_are_still_told() -> None:
    rig = rig_of(chunk_tokens=64, mixed=True)
    bad = (*LONG[:20], VOCAB - 1, VOCAB - 1)
    rig.model.raises = lambda tokens: tokens[-2:] == [VOCAB - 1] * 2
    rig.submit("a", LONG, 3, prompt_logprobs=0, ignore_end=True)
    rig.submit("b", bad, 3, prompt_logprobs=0)
    rig.run()
    assert isinstance(rig.events["b"][-1], Failed)
    assert [one.logprob for one in scored(rig, "a")[1:]] == pytest.approx(of_prompt(LONG))
