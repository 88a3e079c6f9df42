"""The grammar of the commands that have texts read in one pass: vectors, labels, scores, masks."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from nsedge.api import Activation, Aggregation
from nsedge.cli import scheduling, values

Make = Callable[[str, str], argparse.ArgumentParser]
"""Enters a command by its name and what it does."""


def add_readers(make: Make) -> None:
    """`embed`, `classify`, `rerank` and `fill`."""
    embed = _reader(make, "embed", "make vectors of texts, a line each")
    embed.add_argument(
        "--dimensions", type=values.whole, metavar="N", help="the first numbers of each vector"
    )
    embed.add_argument("--out", metavar="FILE", help="write them as a .npy file instead")
    classify = _reader(make, "classify", "give texts, or the spans in them, a model's labels")
    _add_top_k(classify, "labels of each text, the surest first; all", default=None)
    classify.add_argument(
        "--activation",
        type=values.activation,
        metavar="KIND",
        help=f"how scores are made, where that is not to be the model's own way:"
        f" {', '.join(Activation)}",
    )
    classify.add_argument(
        "--aggregation",
        type=values.aggregation,
        metavar="KIND",
        help=f"how labels of tokens become spans: {', '.join(Aggregation)}; simple",
    )
    rerank = _reader(make, "rerank", "put documents in the order of how well they answer a query",
        texts="documents", metavar="DOCUMENT", before=("query", "QUERY"))  # fmt: skip
    rerank.add_argument("--top", type=values.whole, metavar="N", help="the best alone")
    fill = _reader(make, "fill", "fill the masks in texts", truncates=False)
    _add_top_k(fill, "tokens for each mask; 5", default=5)


def _reader(
    make: Make,
    name: str,
    meaning: str,
    *,
    texts: str = "texts",
    metavar: str = "TEXT",
    before: tuple[str, str] | None = None,
    truncates: bool = True,
) -> argparse.ArgumentParser:
    parser = make(name, meaning)
    parser.add_argument("model", metavar="MODEL")
    if before is not None:
        parser.add_argument(before[0], metavar=before[1])
    parser.add_argument(
        texts, metavar=metavar, nargs="*", default=[], help="lines of standard input where absent"
    )
    if truncates:
        parser.add_argument(
            "--truncate", action="store_true", help="cut off what is longer than the model reads"
        )
    parser.add_argument("--quiet", action="store_true", help="no figures on standard error")
    scheduling.add_flags(parser)
    return parser


def _add_top_k(parser: argparse.ArgumentParser, meaning: str, *, default: int | None) -> None:
    parser.add_argument("--top-k", type=values.whole, metavar="N", default=default, help=meaning)
