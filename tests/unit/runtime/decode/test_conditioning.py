"""Rows in the place of tokens: what a piece of a prompt reads of them, and what tells two prompts
apart."""

from __future__ import annotations

import numpy as np
import pytest

from nsedge.runtime.decode.conditioning import Medium, PromptMedia
from nsedge.runtime.decode.sequence import Limits, Sequence
from tests.unit.rig import Rig

PICTURE = 9


def shown(ids: tuple[int, ...], *names: str, rows: int = 4) -> PromptMedia:
    """A prompt whose tokens 9 are pictures of so many rows, in order."""
    places = [place for place, number in enumerate(ids) if number == PICTURE]
    media = [
        Medium(key=name, places=tuple(places[at * rows : (at + 1) * rows]))
        for at, name in enumerate(names)
    ]
    return PromptMedia.of(ids, media)


def rows_of(number: int, count: int = 4) -> np.ndarray:
    return (np.arange(count * 2, dtype=np.float32) + 100 * number).reshape(count, 2)


def test_a_piece_reads_the_rows_of_its_own_tokens() -> None:
    ids = (1, *[PICTURE] * 4, 2, 3, *[PICTURE] * 4)
    media = shown(ids, "a", "b")
    media.fill([rows_of(1), rows_of(2)])
    assert media.tokens == 8
    assert media.between(5, 7) is None
    found = media.between(3, 9)
    assert found is not None
    assert found.places.tolist() == [0, 1, 4, 5]
    assert np.array_equal(found.rows, np.concatenate([rows_of(1)[2:], rows_of(2)[:2]]))


def test_pieces_read_each_row_once_wherever_they_are_cut() -> None:
    ids = (1, *[PICTURE] * 4, 2)
    media = shown(ids, "a")
    media.fill([rows_of(1)])
    for cut in range(1, len(ids)):
        pieces = [media.between(0, cut), media.between(cut, len(ids))]
        read = np.concatenate([piece.rows for piece in pieces if piece is not None])
        assert np.array_equal(read, rows_of(1))


def test_rows_that_do_not_fit_their_places_are_no_rows() -> None:
    media = shown((PICTURE,) * 4, "a")
    with pytest.raises(RuntimeError, match="before its media"):
        media.between(0, 4)
    with pytest.raises(ValueError, match="3 rows for 4 tokens"):
        media.fill([rows_of(1, 3)])
    with pytest.raises(ValueError, match="argument"):
        media.fill([rows_of(1), rows_of(2)])


def test_a_prompt_is_known_by_its_pictures() -> None:
    ids = (1, *[PICTURE] * 4, 2)
    assert shown(ids, "a").keys == (1, "a", "a", "a", "a", 2)
    assert shown(ids, "a").keys != shown(ids, "b").keys
    sequence = Sequence(
        prompt_ids=ids, limits=Limits(max_tokens=1), submitted_s=0.0, media=shown(ids, "a")
    )
    sequence.output_ids.append(7)
    sequence.kv_length = 7
    assert sequence.kv_keys == (1, "a", "a", "a", "a", 2, 7)
    assert sequence.usage().images == 1
    assert sequence.usage().media_tokens == 4


def test_what_was_read_of_one_picture_is_no_prefix_of_a_prompt_about_another() -> None:
    ids = (1, 2, *[PICTURE] * 40, *range(3, 23))
    rig = Rig(slots=4)
    cached = []
    for number, name in enumerate(("one", "two", "one")):
        job = rig.submit(f"r{number}", ids, 2, media=shown(ids, name, rows=40))
        rig.run()
        cached.append(job.sequence.cached_tokens)
    assert cached[:2] == [0, 0]
    assert 42 < cached[2] < len(ids)


def test_no_piece_ends_within_a_picture_whose_tokens_see_each_other() -> None:
    ids = (1, *[PICTURE] * 4, 2, *[PICTURE] * 4, 3, 4)
    apart = shown(ids, "a", "b")
    assert [apart.border(end) for end in range(1, 12)] == list(range(1, 12))
    media = PromptMedia.of(ids, apart.media, together=True)
    assert [media.border(end) for end in range(1, 12)] == [1, 5, 5, 5, 5, 6, 10, 10, 10, 10, 11]
    media.fill([rows_of(1), rows_of(2)])
    found = [media.between(0, 5), media.between(3, 10), media.between(6, 12)]
    told = [None if one is None or one.blocks is None else one.blocks.tolist() for one in found]
    assert told == [[[1, 4]], [[1, 4], [6, 9]], [[6, 9]]]
    assert media.between(10, 12) is None


def test_pictures_and_sound_are_counted_apart() -> None:
    media = PromptMedia.of(
        (PICTURE, 1, PICTURE),
        [Medium(key="a", places=(0,)), Medium(key="b", places=(2,), audio_s=1.5)],
    )
    assert (media.images, media.audio_s, media.tokens) == (1, 1.5, 2)
