"""A bundle whose graph raises, or computes no number, where it meets one particular token."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper
from tokenizers import Tokenizer

from nsedge.bundle.fields import FileEntry
from nsedge.bundle.files import sha256_of, write_manifest
from nsedge.bundle.manifest import Bundle

WORD = " platypus"
EMBEDDED = "/model/embed_tokens/Gather_output_0"
"""The starter's embeddings of a run's tokens."""

Harm = Literal["raise", "nan"]


def poisoned(bundle: Path, folder: Path, harm: Harm = "raise") -> Path:
    """A copy of `bundle` below `folder` that cannot read the last token of WORD."""
    made = Path(shutil.copytree(bundle, folder / bundle.name))
    manifest = Bundle.open(made).manifest
    tokenizer = Tokenizer.from_file(str(made / manifest.tokenizer.file))
    token = tokenizer.encode(WORD, add_special_tokens=False).ids[-1]
    files = dict(manifest.files)
    for variant in manifest.variants:
        path = made / variant.graph
        model = onnx.load(path, load_external_data=False)
        spoil = _raise if harm == "raise" else _give_nan
        spoil(model.graph, variant.io.input_ids, token, manifest.vocab_size)
        onnx.save(model, path)
        files[variant.graph] = FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size)
    write_manifest(made, msgspec.structs.replace(manifest, files=files))
    return made


def _raise(graph: Any, ids: str, token: int, vocab_size: int) -> None:
    """Have every id looked up in a table that leads out of another for `token` alone."""
    _read_instead(graph, ids, "checked_ids")
    steps = np.zeros(vocab_size, np.int64)
    steps[token] = 1
    _give(graph, steps=steps, zero=np.zeros(1, np.int64))
    for place, node in enumerate(
        [
            helper.make_node("Gather", ["poison_steps", ids], ["poison_index"]),
            helper.make_node("Gather", ["poison_zero", "poison_index"], ["poison_nothing"]),
            helper.make_node("Add", [ids, "poison_nothing"], ["checked_ids"]),
        ]
    ):
        graph.node.insert(place, node)


def _give_nan(graph: Any, ids: str, token: int, vocab_size: int) -> None:
    """Have NaN in the embedding of `token`."""
    _read_instead(graph, EMBEDDED, "spoilt")
    table = np.zeros((vocab_size, 1), np.float32)
    table[token] = np.nan
    _give(graph, table=table)
    place = 1 + next(i for i, node in enumerate(graph.node) if EMBEDDED in node.output)
    added = helper.make_node("Gather", ["poison_table", ids], ["poison_added"])
    graph.node.insert(place, helper.make_node("Add", [EMBEDDED, "poison_added"], ["spoilt"]))
    graph.node.insert(place, added)


def _read_instead(graph: Any, name: str, other: str) -> None:
    for node in graph.node:
        for index, read in enumerate(node.input):
            if read == name:
                node.input[index] = other


def _give(graph: Any, **arrays: np.ndarray[Any, Any]) -> None:
    tensors = [numpy_helper.from_array(array, f"poison_{name}") for name, array in arrays.items()]
    graph.initializer.extend(tensors)
