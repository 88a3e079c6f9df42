"""Tokens to words, and the words' times."""

from __future__ import annotations

import pytest

from nsedge.runtime.speech.words import (
    Timed,
    joined,
    settled,
    shared_out,
    shortened,
    split,
    timed,
    usual_s,
)
from tests.unit.runtime.speech.rig import Bytes, straight


def word(text: str, start_s: float = 0.0, end_s: float = 0.3, tokens: int = 1) -> Timed:
    return Timed(text=text, tokens=tokens, start_s=start_s, end_s=end_s, probability=0.5)


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        (" And so on.", "en", [" And", " so", " on", "."]),
        ("don't", "en", ["don", "'t"]),
        (" naïve café", "fr", [" naïve", " café"]),
        ("我叫", "zh", ["我", "叫"]),
        ("我叫", "en", ["我叫"]),
        ("", "en", []),
    ],
)
def test_words_are_whole_characters(text: str, language: str, words: list[str]) -> None:
    found = split(text.encode(), Bytes(), language)
    assert [one for one, _ in found] == words
    assert sum(count for _, count in found) == len(text.encode())


def test_bytes_that_are_no_text_are_told_as_such() -> None:
    assert split(b"a\xff b", Bytes(), "en") == [("a\ufffd", 2), (" b", 2)]
    assert split("é".encode()[:1], Bytes(), "en") == [("\ufffd", 1)]


def test_punctuation_is_with_its_word_which_keeps_its_times() -> None:
    words = [word(' "'), word("Yes", 0.4, 0.6), word(",", 0.6, 1.9), word(" no"), word(".")]
    assert [(one.text, one.start_s, one.end_s, one.tokens) for one in joined(words)] == [
        (' "Yes,', 0.4, 0.6, 3),
        (" no.", 0.0, 0.3, 2),
    ]


def test_a_word_at_the_end_of_a_sentence_is_shortened() -> None:
    words = [word(" a"), word(" b", 0.3, 0.6), word(".", 0.6, 5.0), word(" c", 5.0, 9.0)]
    found = shortened(words)
    assert (found[2].start_s, found[2].end_s) == (0.6, pytest.approx(0.6 + 2 * 0.7))
    assert (found[3].start_s, found[3].end_s) == (pytest.approx(9.0 - 2 * 0.7), 9.0)
    assert usual_s(words) == 0.7
    assert usual_s([]) == 0.0


def test_words_are_shared_out_by_the_tokens_of_the_segments() -> None:
    words = [word("a", tokens=2), word("b", tokens=3), word("c", tokens=1)]
    shares = shared_out(words, [5, 1])
    assert [[one.text for one in share] for share in shares] == [["a", "b"], ["c"]]


def test_the_first_word_after_a_pause_is_cut() -> None:
    words = [word(" Hello", 0.0, 6.0), word(" you", 6.0, 6.3)]
    first, _ = settled(words, 0.0, 6.3, spoken_until_s=-1.0, usual=0.3)
    assert (first.start_s, first.end_s) == (pytest.approx(5.4), 6.0)


def test_words_reach_no_further_than_half_a_second_beyond_their_segment() -> None:
    words = [word(" a", 0.0, 2.0), word(" b", 2.0, 9.0)]
    first, last = settled(words, 1.5, 4.0, spoken_until_s=0.0, usual=1.0)
    assert first.start_s == pytest.approx(1.0)
    assert last.end_s == 4.0


def test_words_get_the_times_of_their_tokens() -> None:
    text = b" ab cd"
    found = timed(text, straight(len(text), 1400), Bytes(), "en")
    assert [one.text for one in found] == [" ab", " cd"]
    assert [one.start_s for one in found] == pytest.approx([0.0, 6.0], abs=0.05)
    assert found[1].end_s == pytest.approx(12.0, abs=0.05)
    assert found[0].probability == 0.5
