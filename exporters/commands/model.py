"""`nsedge-export model`."""

from __future__ import annotations

import argparse

from exporters.cache import Cache
from exporters.commands import Answer, Commands
from exporters.commands.options import add_export_options, exported, place, positive
from exporters.schemes import DEFAULT_SCHEME, SCHEMES, Device, KvFormat


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("model", help="make a bundle of a causal LM")
    parser.add_argument(
        "model", metavar="PATH_OR_HUB_ID", help="a model folder, or a hub's ORG/NAME"
    )
    parser.add_argument("--name", help="the bundle's name (default: the folder's or the hub id's)")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--context", type=positive, help="longest context the bundle shall allow")
    add_export_options(parser, scheme=DEFAULT_SCHEME)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Make the bundle."""
    from exporters.hub import bundle_name, find_source
    from exporters.recipe import MAX_CONTEXT, Order, export_bundle

    source = find_source(arguments.model, arguments.revision)
    name = bundle_name(arguments.name or arguments.model, exact=arguments.name is not None)
    order = Order(
        source=source,
        name=name,
        scheme=SCHEMES[arguments.scheme],
        kv=KvFormat(arguments.kv),
        device=Device(arguments.device),
        max_context=arguments.context or MAX_CONTEXT,
    )
    out = place(arguments, name)
    return exported(export_bundle(order, out, cache=cache, replace=arguments.force))
