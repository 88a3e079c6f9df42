"""A bundle whose graph raises, in a step, where it meets one particular token."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper
from tokenizers import Tokenizer

from nsedge.bundle.fields import FileEntry
from nsedge.bundle.files import sha256_of, write_manifest
from nsedge.bundle.manifest import Bundle

WORD = " platypus"


def poisoned(bundle: Path, folder: Path) -> Path:
    """A copy of `bundle` below `folder` that cannot read the last token of WORD."""
    made = Path(shutil.copytree(bundle, folder / bundle.name))
    manifest = Bundle.open(made).manifest
    tokenizer = Tokenizer.from_file(str(made / manifest.tokenizer.file))
    token = tokenizer.encode(WORD, add_special_tokens=False).ids[-1]
    files = dict(manifest.files)
    for variant in manifest.variants:
        graph = made / variant.graph
        _poison(graph, variant.io.input_ids, token, manifest.vocab_size)
        files[variant.graph] = FileEntry(sha256=sha256_of(graph), bytes=graph.stat().st_size)
    write_manifest(made, msgspec.structs.replace(manifest, files=files))
    return made


def _poison(path: Path, ids: str, token: int, vocab_size: int) -> None:
    """Have every id looked up in a table that leads out of another for `token` alone."""
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == ids:
                node.input[index] = "checked_ids"
    steps = np.zeros(vocab_size, np.int64)
    steps[token] = 1
    graph.initializer.extend(
        [
            numpy_helper.from_array(steps, "poison_steps"),
            numpy_helper.from_array(np.zeros(1, np.int64), "poison_zero"),
        ]
    )
    for node in reversed(
        [
            helper.make_node("Gather", ["poison_steps", ids], ["poison_index"]),
            helper.make_node("Gather", ["poison_zero", "poison_index"], ["poison_nothing"]),
            helper.make_node("Add", [ids, "poison_nothing"], ["checked_ids"]),
        ]
    ):
        graph.node.insert(0, node)
    onnx.save(model, path)
