"""A tokenizer without the added tokens that its model has no rows for.

Gemma 3's has one, `<image_soft_token>`, which stands for pictures; the models of text alone have no
row for it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from exporters.cache import Cache
from exporters.code import code_digest
from exporters.errors import Refused
from exporters.model.files import Json, is_count, read_object
from exporters.model.source import Source
from nsedge.bundle.files import sha256_of

TOKENIZER_FILE = "tokenizer.json"


def without_surplus_tokens(source: Source, cache: Cache) -> Source:
    """`source` with its tokenizer trimmed to the rows of its embedding; itself where that fits.

    Raises:
        Refused: config.json does not tell the rows.
        ExportError: a file cannot be read.
    """
    rows = _rows(source)
    tokenizer = read_object(source.tokenizer_file)
    surplus = [entry for entry in _added(tokenizer) if entry["id"] >= rows]
    if not surplus:
        return source
    trimmed = tokenizer | {"added_tokens": [e for e in _added(tokenizer) if e["id"] < rows]}

    def make(folder: Path) -> None:
        text = json.dumps(trimmed, ensure_ascii=False)
        (folder / TOKENIZER_FILE).write_text(text, encoding="utf-8")

    file = sha256_of(source.tokenizer_file)
    inputs = {"tokenizer": file, "rows": rows, "code": code_digest(__name__)}
    folder = cache.get("tokenizer", inputs, title="Leaving surplus tokens out", make=make)
    names = tuple(str(entry.get("content")) for entry in surplus)
    return replace(source, tokenizer=folder / TOKENIZER_FILE, surplus=names)


def _rows(source: Source) -> int:
    nested = source.config.get("text_config")
    text: Json = nested if isinstance(nested, dict) else {}
    rows = source.config.get("vocab_size", text.get("vocab_size"))
    if not is_count(rows):
        raise Refused(f"{source.folder / 'config.json'} does not tell its vocab_size")
    return rows


def _added(tokenizer: Json) -> list[Json]:
    entries = tokenizer.get("added_tokens")
    listed = entries if isinstance(entries, list) else []
    return [entry for entry in listed if isinstance(entry, dict) and is_count(entry.get("id"))]
