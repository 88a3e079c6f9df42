"""Pairs of texts that are read from docstrings."""

from __future__ import annotations

from exporters.meaning.docstrings import LEAST_WORDS, MOST_WORDS, read_pairs
from exporters.meaning.ranking import AMONG, ASKED, questions


def test_there_are_many_and_none_is_there_twice() -> None:
    pairs = read_pairs()
    assert len(pairs) > 10 * ASKED
    assert len({pair.question for pair in pairs}) == len(pairs)
    assert len({pair.document for pair in pairs}) == len(pairs)
    for pair in pairs:
        for text in (pair.question, pair.document):
            assert LEAST_WORDS <= len(text.split()) <= MOST_WORDS
    assert pairs == read_pairs()


def test_what_belongs_to_a_sentence_stands_among_others_at_any_place() -> None:
    pairs = read_pairs()[:ASKED]
    places = set()
    for pair, (question, documents, place) in zip(pairs, questions(pairs), strict=True):
        assert question == pair.question
        assert len(set(documents)) == AMONG
        assert documents[place] == pair.document
        places.add(place)
    assert places == set(range(AMONG))
