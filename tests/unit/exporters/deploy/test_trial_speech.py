"""What a transcript has in common with the recorded tokens, in their order."""

from __future__ import annotations

import pytest

from exporters.deploy.trial_speech import in_common


@pytest.mark.parametrize(
    ("wanted", "found", "common"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 4),
        ([1, 2, 3, 4], [], 0),
        ([1, 2, 3, 4], [1, 9, 3, 4], 3),
        ([1, 2, 3, 4], [1, 2, 7, 8, 3, 4], 4),
        ([1, 2, 3, 4], [4, 3, 2, 1], 1),
        ([5] * 300, [5] * 200, 200),
    ],
)
def test_tokens_count_in_order_and_once(wanted: list[int], found: list[int], common: int) -> None:
    assert in_common(wanted, found) == common
