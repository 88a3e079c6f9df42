"""`nsedge-export starter`."""

from __future__ import annotations

import argparse

from exporters.cache import Cache
from exporters.commands import SUCCESS, Answer, Commands
from exporters.commands.options import add_export_options, exported, place
from exporters.schemes import SCHEMES, STARTER_SCHEME, Device, KvFormat


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("starter", help="make the bundle of the starter model")
    parser.add_argument(
        "--print-model-folder",
        action="store_true",
        help="only make the model folder (for fine-tuning, say) and print where it lies",
    )
    add_export_options(parser, scheme=STARTER_SCHEME)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Make the starter's bundle, or its model folder."""
    from exporters.starter import NAME, export_starter, starter_source

    if arguments.print_model_folder:
        folder = str(starter_source(cache).folder)
        return {"model_folder": folder}, [folder], SUCCESS
    report = export_starter(
        cache,
        place(arguments, NAME),
        scheme=SCHEMES[arguments.scheme],
        kv=KvFormat(arguments.kv),
        device=Device(arguments.device),
        replace=arguments.force,
    )
    return exported(report)
