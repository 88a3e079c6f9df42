"""`nsedge-export import-gguf`."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporters.answer import Answer
from exporters.cache import Cache
from exporters.commands import Commands
from exporters.commands.options import add_bundle, make_bundle, positive, wanted_variants
from exporters.quantise.schemes import DEFAULT_SCHEME

UNSAID = f"the one that keeps the file's own integers, else {DEFAULT_SCHEME}"


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser(
        "import-gguf", help="make a bundle of a GGUF file; needs neither torch nor transformers"
    )
    parser.add_argument("file", type=Path, metavar="FILE.gguf")
    parser.add_argument("--name", help="the bundle's name (default: the file's)")
    parser.add_argument("--context", type=positive, help="longest context the bundle shall allow")
    add_bundle(parser, scheme=None, unsaid=UNSAID)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Make the bundle."""
    from exporters.bundle.orders import MAX_CONTEXT, Order
    from exporters.gguf.importing import built, exact_scheme, gguf_source
    from exporters.model.hub import bundle_name

    path = arguments.file.expanduser().absolute()
    name = bundle_name(arguments.name or path.stem, exact=arguments.name is not None)
    source = gguf_source(path, cache)
    order = Order(
        source=source,
        variants=wanted_variants(arguments, exact_scheme(source.file)),
        max_context=arguments.context or MAX_CONTEXT,
        route=built(source.file),
    )
    return make_bundle(order, arguments, name=name, cache=cache)
