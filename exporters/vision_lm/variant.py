"""An encoder of media as a stage's directory, in the form that a scheme has."""

from __future__ import annotations

from pathlib import Path

from exporters.graph.graph import Graph
from exporters.quantise.blocks import quantise
from exporters.quantise.schemes import SCHEMES, Method, Scheme
from exporters.vision_lm.records import QuantisedRecord

IN_BLOCKS = SCHEMES["int8-b64"]
"""What encoders have where their decoder's scheme is not one of blocks of 8 bits."""


def write_variant(reference: Path, out: Path, *, scheme: Scheme, file: str) -> None:
    """Write the fp32 graph `file` in the directory `reference`, quantised, to `out`.

    Raises:
        Refused: the scheme does not fit the model.
    """
    graph = Graph.load(reference / file)
    kept = quantise(graph, scheme_of(scheme))
    graph.save(out / file)
    QuantisedRecord(kept_fp32=kept).write(out)


def scheme_of(decoder: Scheme) -> Scheme:
    """The scheme of an encoder beside a decoder of another, or the same."""
    return decoder if decoder.method is Method.BLOCKS and decoder.bits in (None, 8) else IN_BLOCKS
