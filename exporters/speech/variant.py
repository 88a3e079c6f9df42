"""A variant of a speech model as a stage's directory: both graphs in the form that a scheme has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from exporters.conditioned.native import write_decoder, write_encoder
from exporters.conditioned.records import ConditionedVariantRecord, graphs_of
from exporters.errors import Refused
from exporters.graph.graph import Graph
from exporters.graph.records import NATIVE_FILE
from exporters.model.source import Source
from exporters.model.speech import read_alignment_heads, read_speech_shape
from exporters.quantise.blocks import quantise
from exporters.quantise.rows import Feeds, quantise_rows
from exporters.quantise.schemes import SCHEMES, Scheme
from exporters.speech.aligner import write_aligner
from exporters.speech.audio import (
    clip_samples,
    features_of,
    made_up,
    mel_filters,
)
from exporters.speech.encoder_graph import CONVOLUTION
from exporters.speech.naming import ENCODER
from exporters.speech.records import ALIGNER_FILE, NATIVE_ALIGNER_FILE
from exporters.speech.sounds import calibration_clips

ENCODER_SCHEME = "w8a8"
"""Of the encoder, whatever the blocks of the decoder: a window has many rows."""
DECODER_SCHEMES = ("int8-b64", "int8-b32")


def write_variant(source: Source, reference: Path, out: Path, *, scheme: Scheme) -> None:
    """Write the variant of the fp32 graphs in `reference` to `out`: graphs, native forms, record.

    Raises:
        Refused: the scheme does not fit the model.
    """
    if scheme.name not in DECODER_SCHEMES:
        raise Refused(f"scheme {scheme.name} has no form for speech models")
    nodes: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    targets = graphs_of(out)
    for path, target in zip(graphs_of(reference), targets, strict=True):
        graph = Graph.load(path)
        if path.parent.name == targets[0].parent.name:
            own = SCHEMES[ENCODER_SCHEME]
            found = quantise_rows(graph, own, _calibration(source), kept=(CONVOLUTION,))
        else:
            found = quantise(graph, scheme)
        kept.update(found)
        target.parent.mkdir()
        graph.save(target)
        nodes.update(node.op_type for node in graph.nodes)
    encoder, decoder = targets
    write_encoder(encoder, encoder.with_name(NATIVE_FILE))
    write_decoder(decoder, decoder.with_name(NATIVE_FILE))
    heads = read_alignment_heads(source, read_speech_shape(source))
    for form, aligner in (
        (decoder, ALIGNER_FILE),
        (decoder.with_name(NATIVE_FILE), NATIVE_ALIGNER_FILE),
    ):
        write_aligner(form, decoder.with_name(aligner), heads)
    ConditionedVariantRecord(nodes=dict(nodes), kept_fp32=dict(kept)).write(out)


def _calibration(source: Source) -> list[Feeds]:
    """The sound that the encoder's ranges are taken from."""
    filters = mel_filters(source, read_speech_shape(source).bins)
    sounds = [*map(clip_samples, calibration_clips()), *made_up()]
    return [{ENCODER.features: features_of(one, filters)[None]} for one in sounds]
