"""Added tokens that a model has no rows for are left out where that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporters.cache import Cache
from exporters.errors import Refused
from exporters.model.source import Source
from exporters.model.trimming import without_surplus_tokens
from exporters.progress import Progress
from tests.unit.exporters.model.source_folders import (
    CONFIG,
    VOCABULARY,
    tokenizer,
    write_json,
)


@pytest.fixture
def grown(folder: Path) -> Path:
    made = tokenizer()
    made.add_special_tokens(["<picture>"])
    made.save(str(folder / "tokenizer.json"))
    return folder


def test_they_are_left_out_and_told(grown: Path, tmp_path: Path) -> None:
    write_json(grown / "config.json", CONFIG | {"vocab_size": len(VOCABULARY)})
    cache = Cache(tmp_path / "cache", Progress(None))
    source = Source(folder=grown, origin="tiny")
    with pytest.raises(Refused, match="--drop-surplus-tokens"):
        source.check()
    trimmed = without_surplus_tokens(source, cache)
    trimmed.check()
    known = trimmed.text_reader().tokenizer
    assert known.token_to_id("<picture>") is None
    assert known.encode("<s> a </s>").ids == [1, 0, 2]
    assert trimmed.notes() == (
        "left out of the tokenizer, as there are no rows for them: '<picture>'",
    )
    assert "<picture>" in (grown / "tokenizer.json").read_text()


def test_a_tokenizer_that_fits_is_left_as_it_is(grown: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", Progress(None))
    write_json(grown / "config.json", CONFIG | {"text_config": {"vocab_size": 5}})
    source = Source(folder=grown, origin="tiny")
    assert without_surplus_tokens(source, cache) is source
    write_json(grown / "config.json", CONFIG)
    with pytest.raises(Refused, match="does not tell its vocab_size"):
        without_surplus_tokens(Source(folder=grown, origin="tiny"), cache)
