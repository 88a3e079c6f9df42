"""Runs a speech model's graphs as the daemon does."""

from __future__ import annotations

from pathlib import Path

from exporters.conditioned.runner import ConditionedRunner
from exporters.model.speech import SpeechShape
from exporters.quantise.schemes import REFERENCE_SCHEME
from exporters.speech.records import forms


def runner_of(
    folder: Path, shape: SpeechShape, *, scheme: str = REFERENCE_SCHEME, native: bool = False
) -> ConditionedRunner:
    """Open a form of the graphs in a stage's directory.

    Raises:
        BundleInvalid: one does not load.
    """
    encoder, decoder = forms("form", scheme, shape, native=native, inside="")
    return ConditionedRunner(
        folder,
        encoder,
        decoder,
        reads=encoder.io.features,
        vocabulary=shape.vocabulary,
        positions=shape.positions,
    )
