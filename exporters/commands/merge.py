"""`nsedge-export merge`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from exporters.answer import SUCCESS, Answer
from exporters.cache import Cache
from exporters.commands import Commands
from exporters.commands.base import add_base, choose_base, noted_by_adapters
from exporters.commands.options import add_json
from exporters.errors import ExportError

if TYPE_CHECKING:
    from exporters.finetune.adapters import Adapter
    from exporters.finetune.merge import Report

DTYPES = ("base", "float32", "float16", "bfloat16")


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("merge", help="put LoRA adapters into their base for good")
    add_base(parser)
    parser.add_argument(
        "--adapter",
        required=True,
        action="append",
        metavar="FOLDER[=WEIGHT]",
        help="an adapter (a folder, or a hub's ORG/NAME) and how much of it; may be given often",
    )
    parser.add_argument("--out", required=True, type=Path, help="the merged model's folder")
    parser.add_argument(
        "--dtype", default="base", choices=DTYPES, help="of the weights (default: the base's own)"
    )
    parser.add_argument(
        "--allow-other-base",
        action="store_true",
        help="merge into a base with other weights or tokenizer than the adapter was trained on",
    )
    parser.add_argument("--force", action="store_true", help="replace whatever is at --out")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Merge the adapters."""
    from exporters.finetune.merge import Order, merge

    adapters = tuple(_adapter(text) for text in arguments.adapter)
    base = choose_base(arguments, cache, noted_by_adapters(adapters))
    order = Order(
        source=base.source,
        adapters=adapters,
        dtype=arguments.dtype,
        other_base=arguments.allow_other_base,
    )
    out = arguments.out.expanduser().absolute()
    report = merge(order, out, cache=cache, replace=arguments.force)
    result = {
        "model": str(report.folder),
        "made": report.made,
        **base.result(),
        "adapters": [
            {"name": one.name, "sha256": one.sha256, "weight": one.weight}
            for one in report.adapters
        ],
        "changed_weights": report.changed,
        "untied": report.untied,
    }
    head, *lines = _lines(report)
    return result, [head, base.line(), *lines], SUCCESS


def _adapter(text: str) -> Adapter:
    """FOLDER or FOLDER=WEIGHT; a folder of that whole name comes first."""
    from exporters.finetune.adapters import Adapter
    from exporters.model.hub import find_source

    path, equals, number = text.rpartition("=")
    if not equals or Path(text).is_dir():
        path, number = text, "1"
    try:
        weight = float(number)
    except ValueError:
        raise ExportError(f"--adapter {text}: {number!r} is no weight") from None
    if not -10 <= weight <= 10:
        raise ExportError(f"--adapter {text}: a weight lies between -10 and 10")
    source = find_source(path, None)
    return Adapter(folder=source.folder, name=source.origin, weight=weight)


def _lines(report: Report) -> list[str]:
    lines = [f"{report.folder}: {'merged' if report.made else 'up to date'}"]
    lines += [f"  {one.name}, weight {one.weight:g}" for one in report.adapters]
    lines.append(f"  changed: {report.changed} weights of {report.base.origin}")
    if report.untied:
        lines.append(
            "  head and embedding are no longer one weight: an adapter changes one of them, or each"
            " by itself"
        )
    return lines
