"""A variant of a model of pictures as a stage's directory: text encoders and denoiser in the form
that a scheme has. Convolutions stay as they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from exporters.diffusion.records import DENOISER_FILE, TEXT_FILES, DiffusionVariantRecord
from exporters.graph.graph import Graph
from exporters.quantise.blocks import quantise
from exporters.quantise.schemes import Scheme


def write_variant(reference: Path, out: Path, *, scheme: Scheme) -> None:
    """Write the fp32 graphs in `reference`, quantised, to `out`.

    Raises:
        Refused: the scheme does not fit the model.
    """
    kept: Counter[str] = Counter()
    for name in (*TEXT_FILES, DENOISER_FILE):
        if (reference / name).is_file():
            graph = Graph.load(reference / name)
            kept.update(quantise(graph, scheme, meant=kernels(graph)))
            graph.save(out / name)
    DiffusionVariantRecord(kept_fp32=dict(kept)).write(out)


def kernels(graph: Graph) -> frozenset[str]:
    """The weights of a graph's convolutions."""
    return frozenset(node.input[1] for node in graph.nodes if node.op_type == "Conv")
