"""A variant of a captioner as a stage's directory: both graphs in the form that a scheme has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from exporters.conditioned.native import write_decoder, write_encoder
from exporters.conditioned.records import ConditionedVariantRecord, graphs_of
from exporters.graph.graph import Graph
from exporters.graph.records import NATIVE_FILE
from exporters.quantise.blocks import quantise
from exporters.quantise.schemes import Scheme


def write_variant(reference: Path, out: Path, *, scheme: Scheme) -> None:
    """Write the variant of the fp32 graphs in `reference` to `out`: graphs, native forms, record.

    Raises:
        Refused: the scheme does not fit the model.
    """
    nodes: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    encoder, decoder = graphs_of(out)
    for path, target in zip(graphs_of(reference), (encoder, decoder), strict=True):
        graph = Graph.load(path)
        kept.update(quantise(graph, scheme))
        target.parent.mkdir()
        graph.save(target)
        nodes.update(node.op_type for node in graph.nodes)
    write_encoder(encoder, encoder.with_name(NATIVE_FILE))
    write_decoder(decoder, decoder.with_name(NATIVE_FILE))
    ConditionedVariantRecord(nodes=dict(nodes), kept_fp32=dict(kept)).write(out)
