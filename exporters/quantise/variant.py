"""A variant of a model as a stage's directory: the fp32 graph in the form that a scheme has."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from exporters.graph.balance import WIDE, Floats, spread
from exporters.graph.graph import Graph
from exporters.graph.half import halve
from exporters.graph.kv_int8 import SCALES_FILE, cache_in_int8
from exporters.graph.native import why_no_form, write_native
from exporters.graph.records import GRAPH_FILE, NATIVE_FILE, ReferenceRecord, VariantRecord
from exporters.measure.kv_ranges import cached_ranges
from exporters.measure.runner import runner_of
from exporters.model.source import Source
from exporters.model.texts import calibration_passages
from exporters.quantise.apply import apply_scheme
from exporters.quantise.observe import Calibration
from exporters.quantise.schemes import Device, Scheme

RANGE_TOKENS = 256
"""Enough for a channel's magnitude to the next power of two."""


def write_variant(
    source: Source,
    reference: Path,
    out: Path,
    *,
    scheme: Scheme,
    device: Device,
    scales: Path | None,
) -> None:
    """Write the variant of the fp32 graph in `reference` to `out`: graph, native form, record.

    `scales` is the folder of an int8 cache's scales, if the variant has such a cache.

    Raises:
        Refused: the scheme does not fit the model.
    """
    record = ReferenceRecord.read(reference)
    texts = calibration_passages(source.text_reader())
    passages = [ids[: record.context_length] for ids in texts]
    graph = Graph.load(reference / GRAPH_FILE)
    calibration = Calibration(passages=passages, io=record.io, kv=record.kv)
    kept = apply_scheme(graph, scheme, calibration, source)
    io, kv = None, None
    if device is Device.CUDA:
        kv = halve(graph, io=record.io, kv=record.kv)
        kept = {purpose: size // 2 for purpose, size in kept.items()}
    if scales is not None:
        numbers = np.load(scales / SCALES_FILE)
        io, kv = cache_in_int8(graph, io=record.io, kv=record.kv, scales=numbers)
        shutil.copyfile(scales / SCALES_FILE, out / SCALES_FILE)
    graph.save(out / GRAPH_FILE)
    lacks: str | None = "the operators are the CPU's and have a cache of their own"
    uneven: dict[int, Floats] = {}
    if device is Device.CPU and scales is None:
        lacks = why_no_form(out / GRAPH_FILE)
        if lacks is None:
            uneven = _uneven_keys(reference, passages)
            write_native(out / GRAPH_FILE, out / NATIVE_FILE, uneven=uneven)
    VariantRecord(
        nodes=dict(Counter(node.op_type for node in graph.nodes)),
        kept_fp32=kept,
        io=io,
        kv=kv,
        native_lacks=lacks,
        evened={layer: round(spread(ranges), 1) for layer, ranges in uneven.items()},
    ).write(out)


def _uneven_keys(reference: Path, passages: Sequence[Sequence[int]]) -> dict[int, Floats]:
    """Layers of the fp32 graph whose keys differ widely by channel, and their magnitudes."""
    ranges = cached_ranges(runner_of(reference), passages, tokens=RANGE_TOKENS)
    return {layer: keys for layer, (keys, _) in enumerate(ranges) if spread(keys) > WIDE}
