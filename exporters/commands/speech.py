"""What the commands do with speech models."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from exporters.answer import Answer
from exporters.cache import Cache
from exporters.commands.conditioned import conditioned_exported, verify_conditioned
from exporters.commands.options import place, says_variants, wanted_variants
from exporters.measure.thresholds import read_overrides
from exporters.model.source import Source

if TYPE_CHECKING:
    from exporters.bundle.orders import VariantOrder
    from nsedge.bundle.manifest import Bundle
    from nsedge.bundle.speech import Speech


def add_voice(parser: argparse.ArgumentParser) -> None:
    """--no-voice."""
    parser.add_argument(
        "--no-voice",
        action="store_true",
        help="leave the voice detector (Silero's) out of a speech model's bundle",
    )


def make_speech_bundle(
    source: Source, arguments: argparse.Namespace, *, name: str, cache: Cache
) -> Answer:
    """Make the bundle `name` of a speech model's folder as the options of `add_bundle` say."""
    from exporters.speech.build import SpeechOrder, export_speech

    report = export_speech(
        SpeechOrder(
            source=source, variants=speech_variants(arguments), voice=not arguments.no_voice
        ),
        place(arguments, name),
        name=name,
        cache=cache,
        overrides=read_overrides(arguments.threshold),
        replace=arguments.force,
    )
    return conditioned_exported(report)


def speech_variants(arguments: argparse.Namespace) -> tuple[VariantOrder, ...]:
    """What was asked for, else all that speech models have."""
    from exporters.speech.build import default_variants

    return wanted_variants(arguments) if says_variants(arguments) else default_variants()


def verify_speech_bundle(
    bundle: Bundle[Speech], arguments: argparse.Namespace, cache: Cache
) -> Answer:
    """Check a speech model's bundle as the options of `verify` say.

    Raises:
        ExportError: options that are for models which read text, or a report within the bundle.
    """
    from exporters.speech.verify import verify_speech

    return verify_conditioned(
        bundle,
        arguments,
        lambda overrides: verify_speech(bundle, cache, overrides=overrides),
    )
