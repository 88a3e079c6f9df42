"""Positions on three axes: of text, of pictures, and of what comes behind them."""

from __future__ import annotations

import numpy as np
import pytest

from nsedge.runtime.decode.conditioning import Medium, PromptMedia
from nsedge.runtime.decode.positions import Block, Positions, text
from nsedge.runtime.decode.sequence import Limits, Sequence
from nsedge.runtime.graph.positions import one_row, positions_of

PROMPT = Positions.of(12, [Block(place=2, rows=2, columns=3), Block(place=9, rows=1, columns=2)])


def test_text_counts_on_behind_the_longer_side_of_a_picture() -> None:
    time, row, column = PROMPT.of_prompt.tolist()
    assert time == [0, 1, 2, 2, 2, 2, 2, 2, 5, 6, 6, 8]
    assert row == [0, 1, 2, 2, 2, 3, 3, 3, 5, 6, 6, 8]
    assert column == [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7, 8]
    assert PROMPT.lag == 3


def test_text_alone_is_the_same_on_all_axes() -> None:
    assert Positions.of(4, []).of_prompt.tolist() == [[0, 1, 2, 3]] * 3
    assert text(3, 5).tolist() == [[3, 4]] * 3


@pytest.mark.parametrize("start", range(15))
def test_pieces_are_parts_of_the_whole(start: int) -> None:
    whole = PROMPT.between(0, 16)
    assert whole[:, 12:].tolist() == [[9, 10, 11, 12]] * 3
    for end in range(start + 1, 17):
        assert (PROMPT.between(start, end) == whole[:, start:end]).all()


def test_a_graph_reads_them_on_as_many_axes_as_it_has() -> None:
    ids = tuple(range(12))
    media = PromptMedia.of(
        ids,
        [
            Medium(key="a", places=tuple(range(2, 8)), grid=(2, 3)),
            Medium(key="b", places=(9, 10), grid=(1, 2)),
        ],
    )
    limits = Limits(max_tokens=1)
    seen = Sequence(prompt_ids=ids, limits=limits, submitted_s=0.0, media=media)
    plain = Sequence(prompt_ids=ids, limits=limits, submitted_s=0.0)
    assert media.positions is not None
    assert (positions_of(seen, 0, 12, axes=3) == PROMPT.of_prompt).all()
    assert positions_of(seen, 13, 14, axes=3).tolist() == [[10]] * 3
    assert positions_of(seen, 0, 3, axes=1).tolist() == [0, 1, 2]
    for nobody in (plain, None):
        assert positions_of(nobody, 5, 7, axes=3).tolist() == [[5, 6]] * 3
    joined = one_row([positions_of(seen, 1, 4, axes=3), positions_of(plain, 0, 2, axes=3)])
    assert joined.shape == (3, 1, 5)
    assert joined.flags.c_contiguous
    assert one_row([np.arange(2), np.arange(3)]).shape == (1, 5)


def test_pictures_whose_places_tell_nothing_have_none() -> None:
    assert PromptMedia.of((1, 2), [Medium(key="a", places=(0,))]).positions is None
