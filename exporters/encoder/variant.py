"""A variant of an encoder as a stage's directory: the fp32 graph in the form that a scheme has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from exporters.encoder.graph import IO, KINDS
from exporters.encoder.head_graph import HEAD, PLACES
from exporters.encoder.records import EncoderRecord, EncoderVariantRecord
from exporters.encoder.texts import calibration_texts, reader_of
from exporters.graph.graph import Graph
from exporters.graph.records import GRAPH_FILE
from exporters.model.source import Source
from exporters.quantise.blocks import quantise
from exporters.quantise.rows import Feeds, quantise_rows
from exporters.quantise.schemes import Method, Scheme

RANDOM_TEXTS = 48
RANDOM_TOKENS = 64
SEED = 22
"""Of texts of random tokens, so that words that no calibration text holds fit the ranges, too."""


def write_variant(source: Source, reference: Path, out: Path, *, scheme: Scheme) -> None:
    """Write the variant of the fp32 graph in `reference` to `out`: graph and record.

    Raises:
        Refused: the scheme does not fit the model.
    """
    graph = Graph.load(reference / GRAPH_FILE)
    if scheme.method is Method.ROTATED:
        record = EncoderRecord.read(reference)
        heads = [name for name in graph.weights if name.startswith(HEAD)]
        feeds = _calibration(graph, source, record)
        kept = quantise_rows(graph, scheme, feeds, kept=heads)
    else:
        kept = quantise(graph, scheme)
    graph.save(out / GRAPH_FILE)
    nodes = dict(Counter(node.op_type for node in graph.nodes))
    EncoderVariantRecord(nodes=nodes, kept_fp32=kept).write(out)


def _calibration(graph: Graph, source: Source, record: EncoderRecord) -> list[Feeds]:
    """What the graph reads of the texts that ranges are taken from, one at a time; a masked LM
    judges every token."""
    reader = reader_of(source, context_length=record.context_length, vocab_size=record.vocab_size)
    texts = [np.array(ids) for ids in reader.read(calibration_texts(), truncate=True)]
    random = np.random.default_rng(SEED)
    size = RANDOM_TEXTS, min(RANDOM_TOKENS, record.context_length)
    feeds: list[Feeds] = []
    for ids in [*texts, *random.integers(0, record.vocab_size, size)]:
        given = {
            IO.input_ids: ids[None],
            IO.attention_mask: np.ones_like(ids)[None],
            KINDS: np.zeros_like(ids)[None],
            PLACES: np.arange(len(ids)),
        }
        feeds.append({one.name: given[one.name] for one in graph.inputs})
    return feeds
