"""What is known of a speech model's graphs; read without the libraries that made them."""

from __future__ import annotations

from typing import Any

from exporters.conditioned.naming import form_of
from exporters.conditioned.records import DECODER, ENCODER, variant_fields
from exporters.conditioned.samples import Trial
from exporters.measure.thresholds import Limits, Measure
from exporters.model.speech import SpeechShape
from exporters.speech.naming import WEIGHTS
from nsedge.bundle.speech import ListenerIo, ListenerVariant, SpeechFidelity, SpeechVariant
from nsedge.native import CROSS_REQUIREMENT, REQUIREMENT, WINDOW_REQUIREMENT

ALIGNER_FILE = "aligner.onnx"
NATIVE_ALIGNER_FILE = "native-aligner.onnx"
"""The decoder's graphs with what its alignment heads look at."""
PROMISES: dict[str, Limits] = {
    "fp32": {Measure.KL: 1e-6, Measure.TOP1: 1.0},
    "int8-b32": {Measure.KL: 0.03, Measure.TOP1: 0.95},
    "int8-b64": {Measure.KL: 0.03, Measure.TOP1: 0.95},
}
"""By scheme, what is promised of its forms; there is no other scheme."""
SpeechTrial = Trial[SpeechFidelity]


def forms(
    name: str, scheme: str, shape: SpeechShape, *, native: bool, inside: str
) -> tuple[ListenerVariant, SpeechVariant]:
    """How a form of the graphs in the directory `inside` is run."""
    form = form_of(shape.decoder, native=native)

    def fields(part: str) -> dict[str, Any]:
        return variant_fields(part, name=name, scheme=scheme, native=native, inside=inside)

    aligner = NATIVE_ALIGNER_FILE if native else ALIGNER_FILE
    encoder = ListenerVariant(
        **fields(ENCODER),
        requires=(CROSS_REQUIREMENT, WINDOW_REQUIREMENT) if native else (),
        io=ListenerIo(memory=form.written),
    )
    decoder = SpeechVariant(
        **fields(DECODER),
        requires=(REQUIREMENT, CROSS_REQUIREMENT) if native else (),
        io=form.io,
        kv=form.kv,
        memory=form.memory,
        aligner=f"{inside}/{DECODER}/{aligner}" if inside else f"{DECODER}/{aligner}",
        weights=WEIGHTS,
    )
    return encoder, decoder
