"""Beam search in the engine: held to a search in plain Python, beside others and in trouble."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsedge.api import (
    ChoiceFinished,
    Delta,
    Finished,
)
from nsedge.runtime.decode.beams import ByCount
from nsedge.runtime.decode.plan import KvCopy
from nsedge.runtime.settings import PrefixReuse
from tests.unit.rig import END, GREEDY, VOCAB, Rig, continuation
from tests.unit.runtime.decode.wanted_beams import (
    PROMPT,
    WORD,
    Wanted,
    texts_of,
    uncertain,
    without_end,
)

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
