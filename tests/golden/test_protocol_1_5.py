"""The frames of protocol 1.5 as they were released: read for ever as they were meant."""

from __future__ import annotations

from typing import Any

import pytest

from tests.golden.frames import decoded, entries, holds, plain


@pytest.mark.parametrize("entry", entries("1_5"), ids=lambda entry: entry["name"])
def test_it_is_still_read_as_it_was_meant(entry: dict[str, Any]) -> None:
    assert holds(plain(decoded(entry)), entry["fields"])
