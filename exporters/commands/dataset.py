"""`nsedge-export dataset`."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporters.answer import SUCCESS, Answer
from exporters.cache import Cache
from exporters.commands import Commands
from exporters.commands.base import add_base, choose_base, remember_base
from exporters.commands.options import add_json, positive
from exporters.finetune.shapes import Shape


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser(
        "dataset", help="make examples to train with of JSON, JSON Lines or CSV"
    )
    parser.add_argument(
        "--input",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help="rows as JSON, JSON Lines or CSV; may be given several times",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="TRAIN.JSONL",
        help="where to put the examples",
    )
    add_base(parser)
    parser.add_argument(
        "--format",
        default=Shape.AUTO.value,
        choices=[shape.value for shape in Shape],
        help="the shape of the rows (default: found out for each row)",
    )
    parser.add_argument(
        "--validation",
        type=_share,
        default=0.1,
        metavar="SHARE",
        help="how many of the rows to validate with (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed divides otherwise")
    parser.add_argument(
        "--max-tokens", type=positive, help="longest example (default: the base's context)"
    )
    parser.add_argument(
        "--truncate", action="store_true", help="cut longer examples instead of dropping them"
    )
    parser.add_argument("--system", help="a system turn for conversations that have none")
    parser.add_argument("--strict", action="store_true", help="fail at the first row to be dropped")
    parser.add_argument("--force", action="store_true", help="replace whatever is at --output")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Make the examples."""
    from exporters.finetune.dataset import make_dataset
    from exporters.finetune.making import DatasetOrder
    from exporters.finetune.report import dataset_lines, dataset_result

    output = arguments.output.expanduser().absolute()
    base = choose_base(arguments, cache)
    order = DatasetOrder(
        inputs=tuple(path.expanduser() for path in arguments.input),
        output=output,
        base=base.source,
        shape=Shape(arguments.format),
        validation=arguments.validation,
        seed=arguments.seed,
        max_tokens=arguments.max_tokens,
        truncate=arguments.truncate,
        system=arguments.system,
        strict=arguments.strict,
        replace=arguments.force,
    )
    made = make_dataset(order, cache.progress)
    remember_base(cache, made.report.key, base.source)
    head, *lines = dataset_lines(made.report, output, up_to_date=made.up_to_date)
    result = dataset_result(made.report, output, up_to_date=made.up_to_date)
    return result | base.result(), [head, base.line(), *lines], SUCCESS


def _share(text: str) -> float:
    """A number from 0 to below 1.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    share = float(text)
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError("at least 0 and less than 1")
    return share
