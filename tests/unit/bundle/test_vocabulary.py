"""A bundle whose tokenizer knows a token that the model has no row for is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken

from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vocabulary import check_vocabulary, tokens_without_row
from nsedge.errors import BundleInvalid
from tests.unit.bundles import edit_manifest, tokenizer, write_bundle

KNOWN = 256 + 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "tiny")


def test_as_many_rows_as_tokens_or_more_are_right(path: Path) -> None:
    for rows in (KNOWN, 300):
        edit_manifest(path, vocab_size=rows)
        check_vocabulary(Bundle.open(path))
    assert tokens_without_row(tokenizer(), KNOWN) is None


def test_a_token_more_is_named(path: Path) -> None:
    edit_manifest(path, vocab_size=KNOWN - 1)
    with pytest.raises(BundleInvalid, match=r"tokenizer\.json: the tokenizer knows 260 ") as caught:
        check_vocabulary(Bundle.open(path))
    told = str(caught.value)
    assert "'<|system|>', and the model has 260 rows of embeddings" in told


def test_many_are_counted_and_their_text_is_escaped() -> None:
    made = tokenizer()
    made.add_tokens([AddedToken(f"\x1b[{n}m" + "x" * 99) for n in range(9)])
    told = tokens_without_row(made, KNOWN)
    assert told is not None
    assert told.startswith("the tokenizer knows 261 '\\x1b[0mxxx")
    assert " and 6 more, and the model has 261 rows" in told
    assert "\x1b" not in told
    assert len(told) < 300


def test_golden_prompts_are_held_to_the_rows(path: Path) -> None:
    golden = [{"text": "a", "prompt_ids": [1], "continuation_ids": [300], "logprobs": [-0.5]}]
    (path / "golden.json").write_text(json.dumps(golden))
    entry = {"sha256": "0" * 64, "bytes": (path / "golden.json").stat().st_size}
    files = json.loads((path / "manifest.json").read_text())["files"]
    edit_manifest(path, files={**files, "golden.json": entry})
    with pytest.raises(BundleInvalid, match="golden sample 0 has a token of no row in 300"):
        check_vocabulary(Bundle.open(path))


def test_a_tokenizer_that_is_none_is_told(path: Path) -> None:
    (path / "tokenizer.json").write_text("{}")
    entry = {"sha256": "0" * 64, "bytes": 2}
    files = json.loads((path / "manifest.json").read_text())["files"]
    edit_manifest(path, files={**files, "tokenizer.json": entry})
    with pytest.raises(BundleInvalid, match=r"tokenizer\.json: "):
        check_vocabulary(Bundle.open(path))
