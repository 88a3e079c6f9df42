"""How a captioner's graphs are run; read without the libraries that made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exporters.conditioned.naming import form_of
from exporters.conditioned.records import DECODER, ENCODER, variant_fields
from exporters.conditioned.runner import ConditionedRunner
from exporters.conditioned.samples import Trial
from exporters.measure.thresholds import Limits, Measure
from exporters.model.conditioned import DecoderShape
from exporters.quantise.schemes import REFERENCE_SCHEME
from nsedge.bundle.caption import CaptionFidelity, CaptionVariant, LookerIo, LookerVariant
from nsedge.native import CROSS_REQUIREMENT, REQUIREMENT, WINDOW_REQUIREMENT

PROMISES: dict[str, Limits] = {
    "fp32": {Measure.KL: 1e-6, Measure.TOP1: 1.0},
    "int8-b32": {Measure.KL: 0.03, Measure.TOP1: 0.95},
    "int8-b64": {Measure.KL: 0.03, Measure.TOP1: 0.95},
}
"""By scheme, what is promised of its forms; there is no other scheme."""
CaptionTrial = Trial[CaptionFidelity]


def forms(
    name: str, scheme: str, shape: DecoderShape, *, native: bool, inside: str
) -> tuple[LookerVariant, CaptionVariant]:
    """How a form of the graphs in the directory `inside` is run."""
    form = form_of(shape, native=native)

    def fields(part: str) -> dict[str, Any]:
        return variant_fields(part, name=name, scheme=scheme, native=native, inside=inside)

    encoder = LookerVariant(
        **fields(ENCODER),
        requires=(CROSS_REQUIREMENT, WINDOW_REQUIREMENT) if native else (),
        io=LookerIo(memory=form.written),
    )
    decoder = CaptionVariant(
        **fields(DECODER),
        requires=(REQUIREMENT, CROSS_REQUIREMENT) if native else (),
        io=form.io,
        kv=form.kv,
        memory=form.memory,
    )
    return encoder, decoder


def runner_of(
    folder: Path, shape: DecoderShape, *, scheme: str = REFERENCE_SCHEME, native: bool = False
) -> ConditionedRunner:
    """Open a form of the graphs in a stage's directory.

    Raises:
        BundleInvalid: one does not load.
    """
    encoder, decoder = forms("form", scheme, shape, native=native, inside="")
    return open_runner(
        folder, encoder, decoder, vocabulary=shape.vocabulary, positions=shape.positions
    )


def open_runner(
    folder: Path,
    encoder: LookerVariant,
    decoder: CaptionVariant,
    *,
    vocabulary: int,
    positions: int,
) -> ConditionedRunner:
    """Open the graphs below `folder`; raises as `runner_of` does."""
    return ConditionedRunner(
        folder,
        encoder,
        decoder,
        reads=encoder.io.pixel_values,
        vocabulary=vocabulary,
        positions=positions,
    )
