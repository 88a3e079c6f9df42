"""What the commands do with models that see pictures and write text."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from exporters.answer import FAILURE, SUCCESS, Answer
from exporters.cache import Cache
from exporters.commands.options import exported, place, wanted_variants
from exporters.measure.thresholds import read_overrides
from exporters.model.source import Source

if TYPE_CHECKING:
    from exporters.vision_lm.records import ImageTrial
    from nsedge.bundle.causal_lm import Fidelity
    from nsedge.bundle.manifest import Bundle
    from nsedge.bundle.vision_lm import VisionLm


def make_vision_bundle(
    source: Source, arguments: argparse.Namespace, *, name: str, cache: Cache
) -> Answer:
    """Make the bundle `name` of a folder as the options of `add_bundle` say."""
    from exporters.bundle.orders import MAX_CONTEXT
    from exporters.model.vision_sources import vision_source
    from exporters.vision_lm.build import export_vision_lm

    report = export_vision_lm(
        vision_source(source),
        place(arguments, name),
        variants=wanted_variants(arguments),
        context=arguments.context or MAX_CONTEXT,
        name=name,
        cache=cache,
        overrides=read_overrides(arguments.threshold),
        replace=arguments.force,
    )
    result, lines, status = exported(report.text)
    record, pictures = report.record, report.record.pictures
    height, width = pictures.steps.size
    result |= {
        "picture": [height, width],
        "picture_tokens": pictures.rows,
        "encoder_difference_from_torch": record.difference,
        "pictures": _built(report.trials.pictures),
    }
    lines = [
        *lines,
        f"  pictures of {height} x {width} become {pictures.rows} tokens; the encoder's fp32 graph"
        f" against PyTorch: {record.difference:.1e} of the greatest number",
        *_trials_lines(report.trials.pictures, "pictures"),
    ]
    if report.sound is not None:
        result |= {
            "sound_encoder_difference_from_torch": report.sound.difference,
            "sounds": _built(report.trials.sounds),
        }
        lines += [
            "  the encoder of sound's fp32 graph against PyTorch:"
            f" {report.sound.difference:.1e} of the greatest number",
            *_trials_lines(report.trials.sounds, "sounds"),
        ]
    return result, lines, status


def _built(trials: Mapping[str, ImageTrial]) -> dict[str, object]:
    return {name: msgspec.to_builtins(trial) for name, trial in trials.items()}


def _trials_lines(trials: Mapping[str, ImageTrial], of: str) -> list[str]:
    return [line for name, trial in trials.items() for line in trial_lines(name, trial, of)]


def with_sight(
    bundle: Bundle[VisionLm], answer: Answer, arguments: argparse.Namespace, cache: Cache
) -> Answer:
    """What `verify` found of a bundle's text, and what there is to find of its encoders."""
    from exporters.encoder.verdict import verdict_lines
    from exporters.measure.findings import verdict_result
    from exporters.vision_lm.verify import verify_sight

    result, lines, status = answer
    found = verify_sight(bundle, cache, overrides=read_overrides(arguments.threshold))
    pictures = verdict_result(found.encoders) | {
        "after_pictures": {name: msgspec.to_builtins(told) for name, told in found.told.items()}
    }
    if found.heard:
        heard = {name: msgspec.to_builtins(told) for name, told in found.heard.items()}
        pictures["after_sounds"] = heard
    passed = status == SUCCESS and found.encoders.passed
    return (
        result | {"passed": passed, "pictures": pictures},
        [
            *lines,
            *verdict_lines(found.encoders),
            *told_lines(found.told, "pictures"),
            *told_lines(found.heard, "sounds"),
        ],
        SUCCESS if passed else FAILURE,
    )


def trial_lines(name: str, trial: ImageTrial, of: str) -> list[str]:
    """How near an encoder of pictures or sounds is to fp32, alone and with its decoders, for
    people."""
    near = trial.fidelity
    return [
        f"  {name} against fp32: rows of {of} with a cosine of {near.cosine:.6f} in the mean,"
        f" {near.cosine_least:.6f} at least",
        *told_lines(trial.seen, of),
    ]


def told_lines(told: Mapping[str, Fidelity], of: str) -> list[str]:
    """How near to fp32 decoders are after pictures or sounds, with their encoders, for people."""
    return [
        f"  {name} against fp32, after {of}: KL {found.kl:.4g} nats, top-1 {found.top1:.3f}"
        for name, found in told.items()
    ]
