"""Beam search in the engine: held to a search in plain Python, beside others and in trouble."""

from __future__ import annotations

import gc
import zlib
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsedge.api import (
    ChoiceFailed,
    ChoiceFinished,
    Delta,
    EarlyStopping,
    Event,
    Failed,
    Finished,
    FinishReason,
    Priority,
    Started,
    is_terminal,
)
from nsedge.runtime.decode.beams import ByBest, ByCount
from nsedge.runtime.decode.plan import KvCopy
from nsedge.runtime.decode.sampling.logits import Floats
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow, TokenRules
from nsedge.runtime.decode.sequence import Sequence
from nsedge.runtime.settings import PrefixReuse
from tests.unit.rig import END, GREEDY, VOCAB, Rig, continuation

PROMPT = tuple(1 + n * 7 % (VOCAB - 1) for n in range(11))
WORD = tuple[int, ...]


def spread(tokens: list[int]) -> Floats:
    """What the model says after `tokens`: logits that are a function of all of them."""
    chance = np.random.default_rng(zlib.crc32(bytes(tokens)))
    return chance.normal(0.0, 2.0, VOCAB).astype(np.float32)


def uncertain(rig: Rig) -> Rig:
    rig.model.spread = spread
    return rig


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A search, as plain Python has it: lists of (sum, tokens)."""

    prompt: WORD
    max_tokens: int
    beams: int
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False
    min_tokens: int = 0
    repetition_penalty: float = 1.0
    banned: WORD = ()

    def best(self) -> list[WORD]:
        going: list[tuple[float, WORD]] = [(0.0, ())]
        kept: list[tuple[float, WORD]] = []
        for length in range(1, self.max_tokens + 1):
            found = sorted(
                ((s + p, (*said, t)) for s, said in going for t, p in enumerate(self.after(said))),
                key=lambda one: -one[0],
            )[: 2 * self.beams]
            done = [one for one in found[: self.beams] if self.ends(one[1])]
            kept += [(s / length**self.length_penalty, said) for s, said in done]
            kept = sorted(kept, key=lambda one: -one[0])[: self.beams]
            going = [one for one in found if not self.ends(one[1])][: self.beams]
            if not going or self.is_done(going[0][0], length, kept):
                break
        return [said for _, said in kept]

    def after(self, said: WORD) -> list[float]:
        logits = spread([*self.prompt, *said]).astype(np.float64)
        chances = logits - np.log(np.exp(logits).sum())
        for token in {*self.prompt, *said}:
            chances[token] *= self.repetition_penalty
        chances[list(self.banned)] = -np.inf
        if len(said) + 1 < self.min_tokens:
            chances[END] = -np.inf
        return chances.tolist()  # type: ignore[no-any-return]

    def ends(self, said: WORD) -> bool:
        return said[-1] == END or len(said) == self.max_tokens

    def is_done(self, best: float, length: int, kept: list[tuple[float, WORD]]) -> bool:
        if len(kept) < self.beams:
            return False
        if self.early_stopping is True:
            return True
        hopeful = self.early_stopping == "never" and self.length_penalty > 0
        return best / (self.max_tokens if hopeful else length) ** self.length_penalty <= kept[-1][0]

    def ending(self) -> ByBest:
        return ByBest(
            beams=self.beams,
            max_tokens=self.max_tokens,
            length_penalty=self.length_penalty,
            early_stopping=self.early_stopping,
        )

    def row(self) -> SamplerRow:
        params = SamplingParams(temperature=0.0, repetition_penalty=self.repetition_penalty)
        return SamplerRow(
            params,
            prompt_ids=self.prompt,
            rules=TokenRules(banned=self.banned),
            vocabulary=VOCAB,
        )

    def ask(self, rig: Rig, name: str, n: int = 1) -> None:
        rig.submit(
            name,
            self.prompt,
            self.max_tokens,
            min_tokens=self.min_tokens,
            beams=self.beams,
            ending=self.ending(),
            row=self.row(),
            n=n,
        )


def texts_of(rig: Rig, name: str, n: int = 1) -> list[WORD]:
    """The tokens of each choice, which come as one piece, before the one end of all."""
    events = rig.events[name]
    assert [is_terminal(event) for event in events].count(True) == 1
    assert is_terminal(events[-1])
    deltas = [event for event in events if isinstance(event, Delta)]
    assert len({delta.choice for delta in deltas}) == len(deltas)
    return [
        tuple(t for delta in deltas if delta.choice == choice for t in delta.token_ids)
        for choice in range(n)
    ]


def without_end(texts: list[WORD]) -> list[WORD]:
    return [text[:-1] if text and text[-1] == END else text for text in texts]


SEARCHES = st.builds(
    Wanted,
    prompt=st.lists(st.integers(1, VOCAB - 1), min_size=1, max_size=14).map(tuple),
    max_tokens=st.integers(1, 12),
    beams=st.integers(2, 4),
    length_penalty=st.sampled_from([0.0, 0.5, 1.0, 2.0, -1.0]),
    early_stopping=st.sampled_from([False, True, "never"]),
    min_tokens=st.integers(0, 4),
    repetition_penalty=st.sampled_from([1.0, 1.0, 1.3]),
    banned=st.lists(st.integers(1, VOCAB - 1), max_size=20).map(tuple),
).filter(lambda one: one.min_tokens <= one.max_tokens)


@settings(max_examples=60, deadline=None)
@given(wanted=SEARCHES, mixed=st.booleans(), n=st.integers(1, 4))
def test_it_finds_what_a_search_in_plain_python_finds(wanted: Wanted, mixed: bool, n: int) -> None:
    n = min(n, wanted.beams)
    rig = uncertain(Rig(slots=4, mixed=mixed))
    wanted.ask(rig, "a", n)
    rig.run()
    assert texts_of(rig, "a", n) == without_end(wanted.best()[:n])


SHAPES = [(mixed, reuse) for mixed in (False, True) for reuse in PrefixReuse]


@pytest.mark.parametrize(("mixed", "reuse"), SHAPES)
def test_searches_share_steps_with_each_other_and_with_streams(
    mixed: bool, reuse: PrefixReuse
) -> None:
    rig = uncertain(Rig(slots=9, mixed=mixed, prefix_reuse=reuse))
    searches = [
        Wanted(prompt=(*PROMPT, k), max_tokens=6 + 3 * k, beams=2 + k % 3) for k in range(5)
    ]
    rig.submit("stream", (5, 6), 30, ignore_end=True)
    rig.step()
    for k, wanted in enumerate(searches):
        wanted.ask(rig, f"s{k}")
        rig.step()
    rig.run()
    alone = uncertain(Rig(slots=1))
    alone.submit("stream", (5, 6), 30, ignore_end=True)
    alone.run()
    said = [t for e in rig.events["stream"] if isinstance(e, Delta) for t in e.token_ids]
    assert said == [t for e in alone.events["stream"] if isinstance(e, Delta) for t in e.token_ids]
    for k, wanted in enumerate(searches):
        assert texts_of(rig, f"s{k}") == without_end(wanted.best()[:1])


def test_the_texts_come_best_first_with_their_log_probabilities() -> None:
    wanted = Wanted(prompt=PROMPT, max_tokens=8, beams=4, length_penalty=2.0)
    rig = uncertain(Rig())
    rig.submit("a", PROMPT, 8, beams=4, n=3, ending=wanted.ending(), logprobs=2, params=GREEDY)
    rig.run()
    ends = [event for event in rig.events["a"] if isinstance(event, ChoiceFinished)]
    assert [end.choice for end in ends] == [0, 1, 2]
    scores = []
    for end, text in zip(ends, wanted.best(), strict=False):
        told = sum(wanted.after(text[:i])[token] for i, token in enumerate(text))
        assert end.cumulative_logprob == pytest.approx(told, abs=1e-4)
        assert end.usage.completion_tokens == len(text)
        scores.append(told / len(text) ** 2.0)
    assert scores == sorted(scores, reverse=True)
    logprobs = [event.logprobs for event in rig.events["a"] if isinstance(event, Delta)]
    for told_of, text in zip(logprobs, without_end(wanted.best()), strict=False):
        assert [one.id for one in told_of] == list(text)
        assert all(len(one.top) == 2 for one in told_of)
    last = rig.events["a"][-1]
    assert isinstance(last, Finished)
    assert last.usage.completion_tokens == sum(end.usage.completion_tokens for end in ends)


def test_the_log_probability_of_one_text_is_told_with_its_end() -> None:
    wanted = Wanted(prompt=PROMPT, max_tokens=5, beams=2)
    rig = uncertain(Rig())
    wanted.ask(rig, "a")
    rig.run()
    last = rig.events["a"][-1]
    assert isinstance(last, Finished)
    (text, *_) = wanted.best()
    told = sum(wanted.after(text[:i])[token] for i, token in enumerate(text))
    assert last.cumulative_logprob == pytest.approx(told, abs=1e-4)
    assert not any(event.logprobs for event in rig.events["a"] if isinstance(event, Delta))


def test_a_stop_string_ends_a_text_before_it() -> None:
    plain = Wanted(prompt=PROMPT, max_tokens=9, beams=3).best()[0]
    stop = "".join(chr(0x100 + token) for token in plain[2:4])
    rig = uncertain(Rig())
    rig.submit("a", PROMPT, 9, beams=3, n=3, stop=(stop,))
    rig.run()
    texts = [
        "".join(e.text for e in rig.events["a"] if isinstance(e, Delta) and e.choice == c)
        for c in range(3)
    ]
    assert not any(stop in text for text in texts)
    ends = [event for event in rig.events["a"] if isinstance(event, ChoiceFinished)]
    stopped = [text for text, end in zip(texts, ends, strict=True) if end.stop == stop]
    assert "".join(chr(0x100 + token) for token in plain[:2]) in stopped


def test_only_what_differs_is_copied() -> None:
    rig = uncertain(Rig(slots=4, mixed=True))
    Wanted(prompt=PROMPT, max_tokens=20, beams=4, early_stopping="never").ask(rig, "a")
    rig.run()
    copies = [one for one in rig.model.copies if isinstance(one, KvCopy)]
    first, later = copies[:3], copies[3:]
    assert [(one.tokens, one.shared) for one in first] == [(len(PROMPT), 0)] * 3
    assert later
    assert all(one.shared >= len(PROMPT) for one in later)
    assert any(one.shared > len(PROMPT) for one in later)


def test_a_prompt_is_read_once_for_all_beams() -> None:
    rig = uncertain(Rig(chunk_tokens=50))
    Wanted(prompt=PROMPT, max_tokens=3, beams=4).ask(rig, "a")
    rig.run()
    assert rig.model.chunks == [len(PROMPT)]


def test_it_waits_for_as_many_rows_as_it_has_beams_and_nobody_passes_it() -> None:
    rig = uncertain(Rig(slots=4))
    rig.submit("stream", (3,), 12, ignore_end=True)
    rig.step()
    Wanted(prompt=PROMPT, max_tokens=4, beams=4).ask(rig, "search")
    rig.submit("late", PROMPT, 2, ignore_end=True)
    for _ in range(5):
        rig.step()
    assert not rig.events["search"]
    assert not rig.events["late"]
    rig.run()
    assert rig.ended == ["stream", "search", "late"]


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


def test_with_enough_texts_it_ends_as_whisper_does() -> None:
    """One search in plain Python, of decoding.py's BeamSearchDecoder, by sums and means."""
    beams, most = 3, 12
    going: list[tuple[float, WORD]] = [(0.0, ())]
    done: list[tuple[float, WORD]] = []
    after = Wanted(prompt=PROMPT, max_tokens=most, beams=beams).after
    for _ in range(most):
        found = sorted(
            ((s + p, (*said, t)) for s, said in going for t, p in enumerate(after(said))),
            key=lambda one: -one[0],
        )
        going = []
        for total, said in found:
            if said[-1] == END:
                done.append((total, said[:-1]))
            elif len(going) < beams:
                going.append((total, said))
            if len(going) == beams:
                break
        if len(done) >= beams:
            break
    done = done[:beams]
    done += going[: beams - len(done)]
    (_, best) = max(done, key=lambda one: one[0] / max(1, len(one[1])))
    rig = uncertain(Rig())
    rig.submit("a", PROMPT, most, beams=beams, ending=ByCount(beams=beams, enough=beams))
    rig.run()
    assert texts_of(rig, "a") == [best]


def test_beams_that_are_no_likelier_than_greedy_give_what_greedy_gives() -> None:
    """A model that is sure of one token: the others have the same chance each."""
    rig = Rig()
    rig.submit("a", PROMPT, 6, beams=3, ignore_end=True)
    rig.run()
    assert texts_of(rig, "a") == [tuple(continuation(PROMPT, 6, ignore_end=True))]
