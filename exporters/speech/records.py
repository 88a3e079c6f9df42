"""What is known of a speech model's graphs; read without the libraries that made them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from exporters.graph.records import GRAPH_FILE, NATIVE_FILE, NATIVE_SUFFIX, Record
from exporters.model.speech import SpeechShape
from exporters.speech import naming
from nsedge.bundle.speech import ListenerVariant, SpeechFidelity, SpeechVariant
from nsedge.native import CROSS_REQUIREMENT, REQUIREMENT, WINDOW_REQUIREMENT

ENCODER = "encoder"
DECODER = "decoder"
"""The directories of a stage's two graphs, and of a variant's in a bundle."""
ALIGNER_FILE = "aligner.onnx"
NATIVE_ALIGNER_FILE = "native-aligner.onnx"
"""The decoder's graphs with what its alignment heads look at."""


class SpeechRecord(Record, frozen=True, kw_only=True):
    """The fp32 graphs. `difference`: the greatest one from PyTorch in log-probability, in nats;
    `states_difference`: in any number of the encoder's output."""

    difference: float
    states_difference: float
    nodes: dict[str, int]


class SpeechVariantRecord(Record, frozen=True, kw_only=True):
    """Quantised graphs: nodes by kind, and the bytes of what is not quantised, by purpose."""

    nodes: dict[str, int]
    kept_fp32: dict[str, int]


class SpeechTrial(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a form of the graphs. `golden`: the share of the golden recordings' tokens
    that are the likeliest; `texts`: what it writes of them."""

    fidelity: SpeechFidelity
    golden: float
    texts: tuple[str, ...]


class SpeechForm(msgspec.Struct, frozen=True, kw_only=True):
    """A form of a variant: its graphs, and what was found of it."""

    encoder: ListenerVariant
    decoder: SpeechVariant
    trial: SpeechTrial


def forms(
    name: str, scheme: str, shape: SpeechShape, *, native: bool, inside: str
) -> tuple[ListenerVariant, SpeechVariant]:
    """How a form of the graphs in the directory `inside` is run."""
    kv, memory = naming.kv_layout(shape), naming.memory_layout(shape)
    io, listener = naming.DECODER, naming.ENCODER
    if native:
        (io, kv), memory = naming.native_decoder(kv), naming.native_memory(memory)
        listener = naming.NATIVE_ENCODER
    file = NATIVE_FILE if native else GRAPH_FILE
    called = f"{name}{NATIVE_SUFFIX}" if native else name
    prefix = f"{inside}/" if inside else ""
    encoder = ListenerVariant(
        name=called,
        device="cpu",
        scheme=scheme,
        graph=f"{prefix}{ENCODER}/{file}",
        requires=(CROSS_REQUIREMENT, WINDOW_REQUIREMENT) if native else (),
        io=listener,
    )
    decoder = SpeechVariant(
        name=called,
        device="cpu",
        scheme=scheme,
        graph=f"{prefix}{DECODER}/{file}",
        requires=(REQUIREMENT, CROSS_REQUIREMENT) if native else (),
        io=io,
        kv=kv,
        memory=memory,
        aligner=f"{prefix}{DECODER}/{NATIVE_ALIGNER_FILE if native else ALIGNER_FILE}",
        weights=naming.WEIGHTS,
    )
    return encoder, decoder


def graphs_of(folder: Path) -> tuple[Path, Path]:
    """Where the encoder's and the decoder's graph lie in a stage's directory."""
    return folder / ENCODER / GRAPH_FILE, folder / DECODER / GRAPH_FILE
