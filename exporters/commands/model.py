"""`nsedge-export model`."""

from __future__ import annotations

import argparse

from exporters.cache import Cache
from exporters.commands import Answer, Commands
from exporters.commands.options import (
    add_force,
    add_json,
    add_model,
    add_out,
    add_thresholds,
    add_variants,
    exported,
    place,
    wanted_variants,
)
from exporters.schemes import DEFAULT_SCHEME


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("model", help="make a bundle of a causal LM")
    add_model(parser)
    parser.add_argument("--name", help="the bundle's name (default: the folder's or the hub id's)")
    add_out(parser)
    add_variants(parser, scheme=DEFAULT_SCHEME)
    add_thresholds(parser)
    add_force(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Make the bundle."""
    from exporters.hub import bundle_name, find_source
    from exporters.orders import MAX_CONTEXT, Order
    from exporters.recipe import export_bundle
    from exporters.thresholds import read_overrides

    variants, overrides = wanted_variants(arguments), read_overrides(arguments.threshold)
    source = find_source(arguments.model, arguments.revision)
    name = bundle_name(arguments.name or arguments.model, exact=arguments.name is not None)
    order = Order(source=source, variants=variants, max_context=arguments.context or MAX_CONTEXT)
    report = export_bundle(
        order,
        place(arguments, name),
        name=name,
        cache=cache,
        overrides=overrides,
        replace=arguments.force,
    )
    return exported(report)
