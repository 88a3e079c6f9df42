"""Hypotheses as words, and what two of them agree in."""

from __future__ import annotations

from nsedge.runtime.speech.agreeing import (
    Hypothesis,
    Part,
    Said,
    agreed,
    hypothesis,
    ids_of,
    moved,
    parts,
    text_ids,
    text_of,
)
from tests.unit.runtime.speech.rig import ENGLISH, Bytes, at, said


def heard(*told: str | float) -> Hypothesis:
    return hypothesis(said(*told), ENGLISH, Bytes(), "en")


def test_words_bring_their_punctuation_and_the_timestamps_before_them() -> None:
    found = heard(0.0, " One, two.", 1.5, 1.5, " Three", 2.0)
    assert [(one.text, one.times) for one in found.words] == [
        (" One,", (at(0.0),)),
        (" two.", ()),
        (" Three", (at(1.5), at(1.5))),
    ]
    assert found.closing == at(2.0)
    assert [one.begins_segment for one in found.words] == [False, False, True]
    assert ids_of(found.words) == said(0.0, " One, two.", 1.5, 1.5, " Three")
    assert text_ids(found.words) == said(" One, two. Three")
    assert text_of(found.words) == " One, two. Three"


def test_nothing_and_timestamps_alone_are_no_words() -> None:
    assert heard() == Hypothesis(words=())
    assert heard(0.0, 1.0) == Hypothesis(words=())


def test_what_goes_on_behind_settled_words_may_begin_with_punctuation() -> None:
    assert [one.text for one in heard(". And").words] == [".", " And"]


def test_words_agree_whatever_their_case_and_punctuation() -> None:
    before, now = heard(0.0, " He was. Not"), heard(0.0, " he was not amiable", 2.0)
    assert agreed(before.words, now.words) == 3
    assert agreed(now.words, before.words) == 3
    assert agreed((), now.words) == 0
    assert agreed(heard(0.0, " She was").words, now.words) == 0


def test_parts_are_the_segments_with_their_times() -> None:
    found = heard(0.2, " One two", 1.5, 1.6, " three", 2.0)
    first, second = parts(found.words, found.closing, 300, ENGLISH.first_timestamp)
    assert (text_of(first.words), first.start, first.end) == (" One two", 20, 150)
    assert (text_of(second.words), second.start, second.end) == (" three", 160, 200)


def test_a_part_without_times_is_as_long_as_the_window_and_none_takes_no_time() -> None:
    word = Said(text=" one", times=(), tokens=said(" one"))
    assert parts([word], None, 120, 270) == [Part(words=(word,), start=0, end=120)]
    late = heard(1.5, " late").words
    assert [(one.start, one.end) for one in parts(late, at(1.5), 100, 270)] == [(98, 100)]
    assert [(one.start, one.end) for one in parts([word], None, 0, 270)] == [(0, 2)]
    assert parts([], None, 100, 270) == []


def test_words_move_with_their_window() -> None:
    rest = heard(0.0, " a", 1.0, 1.2, " b", 2.0, 2.0, " c").words[1:]
    first, second = moved(rest, at(1.2) - 270, ENGLISH)
    assert first.times == (at(0.0),)
    assert second.times == (at(0.8), at(0.8))
