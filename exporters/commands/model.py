"""`nsedge-export model`."""

from __future__ import annotations

import argparse

from exporters.answer import Answer
from exporters.cache import Cache
from exporters.commands import Commands
from exporters.commands.caption import make_caption_bundle
from exporters.commands.diffusion import make_diffusion_bundle
from exporters.commands.dual_encoder import make_dual_bundle
from exporters.commands.options import (
    add_bundle,
    add_model,
    found_source,
    make_bundle,
    model_source,
    wanted_variants,
)
from exporters.commands.speech import add_voice, make_speech_bundle
from exporters.commands.vectors import make_encoder_bundle
from exporters.commands.vision_lm import make_vision_bundle
from exporters.quantise.schemes import DEFAULT_SCHEME


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser(
        "model",
        help="make a bundle of a causal LM, one that sees, an encoder, CLIP and SigLIP, Whisper, a"
        " captioner, or Stable Diffusion",
    )
    add_model(parser)
    parser.add_argument("--name", help="the bundle's name (default: the folder's or the hub id's)")
    add_bundle(parser, scheme=DEFAULT_SCHEME)
    add_voice(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Make the bundle."""
    from exporters.bundle.orders import MAX_CONTEXT, Order
    from exporters.model.caption import is_caption
    from exporters.model.ctranslate2 import is_ctranslate2
    from exporters.model.diffusion import is_diffusion
    from exporters.model.dual_encoder import is_dual_encoder
    from exporters.model.encoder import is_encoder
    from exporters.model.hub import bundle_name
    from exporters.model.speech import is_speech
    from exporters.model.vision_sources import is_vision_lm
    from exporters.speech.importing import as_model_folder

    variants = wanted_variants(arguments)
    name = bundle_name(arguments.name or arguments.model, exact=arguments.name is not None)
    found = found_source(arguments)
    if is_diffusion(found.folder):
        return make_diffusion_bundle(found, arguments, name=name, cache=cache)
    source = model_source(arguments, cache, found)
    if is_dual_encoder(source):
        return make_dual_bundle(source, arguments, name=name, cache=cache)
    if is_caption(source):
        return make_caption_bundle(source, arguments, name=name, cache=cache)
    if is_ctranslate2(source.folder):
        source = as_model_folder(source, cache)
    if is_speech(source):
        return make_speech_bundle(source, arguments, name=name, cache=cache)
    if is_encoder(source):
        return make_encoder_bundle(source, arguments, name=name, cache=cache)
    if is_vision_lm(source):
        return make_vision_bundle(source, arguments, name=name, cache=cache)
    order = Order(source=source, variants=variants, max_context=arguments.context or MAX_CONTEXT)
    return make_bundle(order, arguments, name=name, cache=cache)
