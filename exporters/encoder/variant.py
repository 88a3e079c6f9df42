"""A variant of an encoder as a stage's directory: the fp32 graph in the form that a scheme has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from exporters.encoder.records import EncoderVariantRecord
from exporters.graph.graph import Graph
from exporters.graph.records import GRAPH_FILE
from exporters.quantise.blocks import quantise
from exporters.quantise.schemes import Scheme


def write_variant(reference: Path, out: Path, *, scheme: Scheme) -> None:
    """Write the variant of the fp32 graph in `reference` to `out`: graph and record.

    Raises:
        Refused: the scheme does not fit the model.
    """
    graph = Graph.load(reference / GRAPH_FILE)
    kept = quantise(graph, scheme)
    graph.save(out / GRAPH_FILE)
    nodes = dict(Counter(node.op_type for node in graph.nodes))
    EncoderVariantRecord(nodes=nodes, kept_fp32=kept).write(out)
