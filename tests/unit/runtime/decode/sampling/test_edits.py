"""Each step that changes logits, by numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.api import Dry as repetitions
from nsedge.runtime.decode.sampling.edits import (
    Allowed,
    Bans,
    Dry,
    Edit,
    EndBan,
    LogitBias,
    Mask,
    Penalties,
)
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.penalties import (
    Frequency,
    Penalty,
    Presence,
    Repetition,
    SeenTokens,
)
from nsedge.runtime.decode.sampling.row import SamplerRow, TokenRules

OUT = -np.inf
GREEDY = SamplingParams(temperature=0.0)


def array(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def masked(*words: int) -> SamplerRow:
    row = SamplerRow(GREEDY)
    row.mask = np.array(words, np.uint32)
    return row


def penalised(prompt: list[int], output: list[int], **penalties: Any) -> SamplerRow:
    row = SamplerRow(SamplingParams(**penalties), prompt_ids=prompt)
    for token in output:
        row.accept(token)
    return row


def ruled(output: Sequence[int] = (), **rules: Any) -> SamplerRow:
    row = SamplerRow(GREEDY, rules=TokenRules(**rules), vocabulary=4)
    for token in output:
        row.accept(token)
    return row


def dried(prompt: list[int], **dry: Any) -> SamplerRow:
    return SamplerRow(SamplingParams(dry=repetitions(**dry)), prompt_ids=prompt)


def banned(ends: tuple[int, ...] = ()) -> SamplerRow:
    row = ruled(ends=ends)
    row.ban_end = True
    return row


@pytest.mark.parametrize(
    ("edit", "row", "expected"),
    [
        (Mask(), masked(0b1010), (OUT, 2.0, OUT, 0.5)),
        (Mask(), masked(0), (OUT, OUT, OUT, OUT)),
        (Mask(), masked(0xFFFFFFFF, 0), (2.0, 2.0, -1.0, 0.5)),
        (LogitBias(), SamplerRow(GREEDY, logit_bias={2: 5.0, 0: -100.0}), (-98.0, 2.0, 4.0, 0.5)),
        (EndBan([3, 0]), banned(), (OUT, 2.0, -1.0, OUT)),
        (EndBan([3]), banned(ends=(1,)), (2.0, OUT, -1.0, OUT)),
        (Allowed(), ruled(allowed=(0, 2)), (2.0, OUT, -1.0, OUT)),
        (Allowed(), ruled(banned=(0, 2)), (OUT, 2.0, OUT, 0.5)),
        (Allowed(), ruled(allowed=(0, 2), banned=(2,)), (2.0, OUT, OUT, OUT)),
        (Bans(), ruled(bad_words=((3,), (1, 0))), (2.0, 2.0, -1.0, OUT)),
        (Bans(), ruled(bad_words=((3,), (1, 0)), output=[1]), (OUT, 2.0, -1.0, OUT)),
        (Bans(), penalised([0, 1, 2], [1], no_repeat_ngram_size=2), (2.0, 2.0, OUT, 0.5)),
        (Dry(), dried([0, 1, 2, 0, 1], multiplier=2.0), (2.0, 2.0, -3.0, 0.5)),
        # Nothing but the newest two counts: of the prompt and, once, of the output.
        (
            Penalties(),
            penalised([0, 3], [2], repetition_penalty=2.0, penalty_last_n=2),
            (2.0, 2.0, -2.0, 0.25),
        ),
        (
            Penalties(),
            penalised([], [3, 3, 3], frequency_penalty=0.25, penalty_last_n=2),
            (2.0, 2.0, -1.0, 0.0),
        ),
        # Positive logits are divided, negative ones multiplied; the prompt counts too.
        (Penalties(), penalised([0, 2, 3], [], repetition_penalty=2.0), (1.0, 2.0, -2.0, 0.25)),
        (Penalties(), penalised([], [3], repetition_penalty=2.0), (2.0, 2.0, -1.0, 0.25)),
        # Subtracted once, for tokens of the output only.
        (Penalties(), penalised([0], [3, 3], presence_penalty=1.5), (2.0, 2.0, -1.0, -1.0)),
        # Subtracted for each occurrence in the output.
        (Penalties(), penalised([0], [3, 3], frequency_penalty=0.25), (2.0, 2.0, -1.0, 0.0)),
        # Repetition comes first.
        (
            Penalties(),
            penalised([0], [3], repetition_penalty=2.0, frequency_penalty=0.25),
            (1.0, 2.0, -1.0, 0.0),
        ),
    ],
)
def test_by_numbers(edit: Edit, row: SamplerRow, expected: tuple[float, ...]) -> None:
    logits = np.full((3, 4), 7.0, np.float32)
    logits[1] = array(2.0, 2.0, -1.0, 0.5)
    assert edit.needed(row)
    edit.apply(logits, [1], [row])
    np.testing.assert_allclose(logits[1], array(*expected))
    assert (logits[[0, 2]] == 7.0).all(), "rows that are not named stay as they are"


EDITS: list[Edit] = [Mask(), LogitBias(), Allowed(), Penalties(), Dry(), Bans(), EndBan([0])]


@pytest.mark.parametrize("edit", EDITS)
def test_a_plain_row_needs_none(edit: Edit) -> None:
    assert not edit.needed(SamplerRow(SamplingParams(), prompt_ids=[1, 2]))


@pytest.mark.parametrize("odd", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("edit", "row"),
    [
        (Mask(), masked(0b0110)),
        (EndBan([0, 3]), banned()),
        (EndBan([]), banned(ends=(0, 3))),
        (Allowed(), ruled(banned=(0, 3))),
        (Bans(), ruled(bad_words=((0,), (3,)))),
    ],
)
def test_what_is_no_number_is_not_hidden(edit: Edit, row: SamplerRow, odd: float) -> None:
    logits = array(odd, 1.0, 2.0, 3.0)[None]
    edit.apply(logits, [0], [row])
    np.testing.assert_array_equal(logits[0], array(odd, 1.0, 2.0, OUT))


def test_a_mask_of_any_length_is_bit_by_bit() -> None:
    for size in (1, 31, 32, 33, 100):
        allowed = [token for token in range(size) if token % 3 == 0]
        words = np.zeros(-(-size // 32), np.uint32)
        for token in allowed:
            words[token // 32] |= np.uint32(1 << token % 32)
        row = SamplerRow(GREEDY)
        row.mask = words
        logits = np.ones((1, size), np.float32)
        Mask().apply(logits, [0], [row])
        assert np.flatnonzero(logits[0] == 1.0).tolist() == allowed


def test_what_a_mask_does_not_reach_may_not_come() -> None:
    logits = np.ones((1, 70), np.float32)
    Mask().apply(logits, [0], [masked(0xFFFFFFFF)])
    assert np.flatnonzero(logits[0] == 1.0).tolist() == list(range(32))


@pytest.mark.parametrize(
    ("penalty", "value", "expected"),
    [
        (Repetition(), 2.0, (1.0, -4.0, 0.0)),
        (Repetition(), 1.0, (2.0, -2.0, 0.0)),
        (Presence(), 0.5, (2.0, -2.5, -0.5)),
        (Presence(), 0.0, (2.0, -2.0, 0.0)),
        (Frequency(), 0.5, (2.0, -2.5, -1.5)),
        (Frequency(), 0.0, (2.0, -2.0, 0.0)),
    ],
)
def test_each_formula(penalty: Penalty, value: float, expected: tuple[float, ...]) -> None:
    counts, values = array(0, 1, 3), np.full(3, value, np.float32)
    changed = penalty.apply(array(2.0, -2.0, 0.0), counts, values)
    assert changed.dtype == np.float32
    np.testing.assert_array_equal(changed, array(*expected))


def test_rows_of_one_pass_are_penalised_as_each_alone() -> None:
    rows = [
        penalised([1, 2, 3], [3, 4], repetition_penalty=1.3),
        penalised([5], [5, 5, 6], presence_penalty=0.4, frequency_penalty=-0.2),
        penalised([], [], frequency_penalty=1.0),
    ]
    logits = np.random.default_rng(1).standard_normal((4, 50)).astype(np.float32)
    together, alone = logits.copy(), logits.copy()
    Penalties().apply(together, [3, 0, 2], rows)
    for place, row in zip([3, 0, 2], rows, strict=True):
        Penalties().apply(alone, [place], [row])
    np.testing.assert_array_equal(together, alone)


def test_seen_tokens_are_counted_once_each() -> None:
    seen = SeenTokens([5, 5, 7])
    for token in [7, 9, *range(100, 140), 9]:
        seen.add(token)
    counts = dict(zip(seen.ids.tolist(), seen.counts.tolist(), strict=True))
    assert counts == {5: 0.0, 7: 1.0, 9: 2.0, **dict.fromkeys(range(100, 140), 1.0)}
