"""A variant of a dual encoder as a stage's directory: both graphs in the form that a scheme has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from exporters.dual_encoder.records import IMAGE_FILE, TEXT_FILE, TowersRecord
from exporters.graph.graph import Graph
from exporters.quantise.blocks import quantise
from exporters.quantise.schemes import Scheme


def write_variant(reference: Path, out: Path, *, scheme: Scheme) -> None:
    """Write both fp32 graphs in `reference`, quantised, to `out`.

    Raises:
        Refused: the scheme does not fit the model.
    """
    kept: Counter[str] = Counter()
    for name in (TEXT_FILE, IMAGE_FILE):
        graph = Graph.load(reference / name)
        kept.update(quantise(graph, scheme))
        graph.save(out / name)
    TowersRecord(kept_fp32=dict(kept)).write(out)
