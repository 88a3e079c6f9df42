"""The largest steps that a model is warmed up with."""

from __future__ import annotations

from nsedge.runtime.hosting.warming import largest_steps


def test_the_largest_steps_are_within_the_bounds() -> None:
    for slots, capacity, chunk in ((1, 16, 128), (4, 4096, 128), (16, 64, 32)):
        mixed, decoding = largest_steps(slots=slots, capacity=capacity, chunk_tokens=chunk)
        (piece,) = mixed.prefill
        assert piece.is_last
        assert len(piece.ids) == min(chunk, capacity)
        assert piece.end <= capacity
        rows = [sequence.held_row for sequence in decoding.decode]
        assert rows == list(range(slots))
        assert [one.held_row for one in mixed.decode] == rows[:-1]
        assert piece.row == slots - 1
