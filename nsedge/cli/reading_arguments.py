"""The grammar of the commands that have texts or pictures read in one pass: vectors, labels,
scores, masks, and a search."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from nsedge.api import Activation, Aggregation
from nsedge.cli import scheduling, values

Make = Callable[[str, str], argparse.ArgumentParser]
"""Enters a command by its name and what it does."""


def add_readers(make: Make) -> None:
    """`embed`, `classify`, `rerank`, `fill` and `search`."""
    embed = _reader(make, "embed", "make vectors of texts and pictures, a line each")
    _add_images(embed)
    embed.add_argument(
        "--dimensions", type=values.whole, metavar="N", help="the first numbers of each vector"
    )
    embed.add_argument("--out", metavar="FILE", help="write them as a .npy file instead")
    classify = _reader(make, "classify", "label texts, the spans in them, or pictures")
    _add_images(classify)
    classify.add_argument(
        "--labels",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="the labels there are, for models that compare texts and pictures",
    )
    classify.add_argument(
        "--prompt",
        dest="prompt_around",
        metavar="TEXT",
        help="what such a label is compared as, with {} in its place",
    )
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
    _add_search(make("search", "the pictures of a folder that are nearest to words"))


def _add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a picture, behind the texts; may be repeated",
    )


def _add_search(search: argparse.ArgumentParser) -> None:
    search.add_argument("folder", metavar="FOLDER", type=Path)
    search.add_argument("prompt", metavar="WORDS", nargs="*", default=[])
    search.add_argument("--like", type=Path, metavar="FILE", help="search by a picture instead")
    search.add_argument(
        "--model", metavar="MODEL", help="what makes the vectors; the first that can"
    )
    search.add_argument(
        "--top", type=values.whole, default=10, metavar="N", help="how many are told; 10"
    )
    search.add_argument("--quiet", action="store_true", help="no figures on standard error")


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
