"""`nsedge-export package`."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporters.answer import Answer
from exporters.cache import Cache
from exporters.commands import Commands
from exporters.commands.options import (
    add_force,
    add_json,
    add_out,
    add_thresholds,
    exported,
    place,
)


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("package", help="make a bundle of what export wrote")
    parser.add_argument("export", type=Path, metavar="DIR", help="the --out of export")
    parser.add_argument("--name", required=True, help="the bundle's name")
    add_out(parser)
    add_thresholds(parser)
    add_force(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Make the bundle."""
    from exporters.bundle.build import pack
    from exporters.bundle.export_folder import read_export
    from exporters.measure.thresholds import read_overrides
    from exporters.model.hub import bundle_name

    name = bundle_name(arguments.name, exact=True)
    overrides = read_overrides(arguments.threshold)
    product = read_export(arguments.export.expanduser().absolute())
    report = pack(
        product,
        place(arguments, name),
        name=name,
        cache=cache,
        overrides=overrides,
        replace=arguments.force,
    )
    return exported(report)
