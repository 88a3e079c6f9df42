"""`nsedge-export export`."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from exporters.answer import SUCCESS, Answer
from exporters.cache import Cache
from exporters.commands import Commands
from exporters.commands.options import (
    add_force,
    add_json,
    add_model,
    add_variants,
    model_source,
    wanted_variants,
)
from exporters.quantise.schemes import DEFAULT_SCHEME


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("export", help="make the graphs of a causal LM, for package")
    add_model(parser)
    parser.add_argument("--out", type=Path, required=True, help="where to put graphs and figures")
    add_variants(parser, scheme=DEFAULT_SCHEME)
    add_force(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Make the graphs.

    Raises:
        Refused: the model is an encoder, writes what is said or seen, or sees itself.
    """
    from exporters.bundle.build import Export
    from exporters.bundle.export_folder import write_export
    from exporters.bundle.orders import MAX_CONTEXT, Order
    from exporters.commands.report import graph_lines
    from exporters.errors import Refused
    from exporters.model.caption import is_caption
    from exporters.model.dual_encoder import is_dual_encoder
    from exporters.model.encoder import is_encoder
    from exporters.model.speech import is_speech
    from exporters.model.vision_sources import is_vision_lm

    variants = wanted_variants(arguments)
    source = model_source(arguments, cache)
    is_any_encoder = is_encoder(source) or is_dual_encoder(source)
    if is_any_encoder or is_speech(source) or is_caption(source) or is_vision_lm(source):
        kind = "a captioner" if is_caption(source) else "a speech model"
        kind = "a model that sees" if is_vision_lm(source) else kind
        kind = "an encoder" if is_any_encoder else kind
        raise Refused(
            f"{source.origin} is {kind}, whose graphs and bundle are made in one step:"
            f" nsedge-export model {arguments.model}"
        )
    order = Order(source=source, variants=variants, max_context=arguments.context or MAX_CONTEXT)
    out = arguments.out.expanduser().absolute()
    export = Export(order, cache)
    made, product = write_export(export, out, cache=cache, replace=arguments.force)
    exported = product.exported
    result = {"export": str(out), "made": made, **msgspec.to_builtins(exported)}
    state = "written" if made else "up to date"
    return result, [f"{out}: {state}", *graph_lines(exported)], SUCCESS
