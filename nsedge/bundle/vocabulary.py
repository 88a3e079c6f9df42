"""Whether a model has a row for every token that its tokenizer knows.

A token without a row cannot be run: the graph's look-up fails on its id.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

from nsedge.bundle.causal_lm import CausalLm, GoldenPrompt
from nsedge.bundle.dual_encoder import DualEncoder
from nsedge.bundle.encoder import Encoder, GoldenVector
from nsedge.bundle.headed import GoldenScores
from nsedge.bundle.manifest import AnyBundle
from nsedge.errors import BundleInvalid
from nsedge.printable import escaped

TOLD = 3
"""Tokens without a row that a message names."""
SHOWN = 40
"""Characters of a token that a message repeats."""


def tokens_without_row(tokenizer: Tokenizer, rows: int) -> str | None:
    """The tokens from id `rows` on, in words; None where there are none."""
    known = tokenizer.get_vocab(with_added_tokens=True)
    beyond = sorted((number, token) for token, number in known.items() if number >= rows)
    if not beyond:
        return None
    named = ", ".join(f"{number} {token[:SHOWN]!a}" for number, token in beyond[:TOLD])
    more = "" if len(beyond) <= TOLD else f" and {len(beyond) - TOLD} more"
    return f"the tokenizer knows {named}{more}, and the model has {rows} rows of embeddings"


def check_vocabulary(bundle: AnyBundle) -> None:
    """Hold a bundle's tokenizer and golden samples to the rows that the model has.

    Raises:
        BundleInvalid: naming what has no row; or a file cannot be read.
    """
    manifest = bundle.manifest
    path, rows = bundle.file(manifest.tokenizer.file), manifest.vocab_size
    reason = tokens_without_row(read_tokenizer(path), rows)
    if reason is not None:
        raise BundleInvalid(f"{path}: {reason}: a request with such a token fails")
    for number, ids in enumerate(_golden_ids(bundle)):
        if max(ids, default=0) >= rows:
            raise BundleInvalid(
                f"{bundle.path}: golden sample {number} has a token of no row in {rows}"
            )


def _golden_ids(bundle: AnyBundle) -> Iterator[tuple[int, ...]]:
    """The tokens of each sample."""
    if isinstance(bundle.manifest, CausalLm):
        for prompt in bundle.golden("generate", GoldenPrompt):
            yield *prompt.prompt_ids, *prompt.continuation_ids
    elif isinstance(bundle.manifest, Encoder | DualEncoder):
        for vector in bundle.golden("embed", GoldenVector):
            yield vector.ids
    else:
        for scores in bundle.golden(bundle.manifest.tasks[0], GoldenScores):
            yield scores.ids


def read_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer.json.

    Raises:
        BundleInvalid: it is not one.
    """
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        raise BundleInvalid(escaped(f"{path}: {error}")) from error
