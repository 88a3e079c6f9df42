"""The fp32 graphs of a dual encoder's folder: built of its weights, and held to PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel

from exporters.dual_encoder.graph import IMAGE_IO, TEXT_IO, image_graph, text_graph
from exporters.dual_encoder.records import (
    IMAGE_FILE,
    TEXT_FILE,
    DualRecord,
    Floats,
    session_of,
)
from exporters.errors import ExportError
from exporters.model.dual_encoder import DualShape, read_dual_shape
from exporters.model.source import Source
from exporters.trace.quiet import quiet
from exporters.trace.reference import load_weights
from nsedge.bundle.dual_encoder import Likelihood
from nsedge.runtime.graph.dual_encoder import DualEncoderSession
from nsedge.runtime.vision.levels import level_table, normalised, pattern

MAX_DIFFERENCE = 1e-4
"""Of any number of a vector."""
CHECK_SEED = 23
CHECK_LENGTHS = (3, 23, 9, 1, 31)
CHECK_PICTURES = range(100, 104)


def make_reference(source: Source, out: Path, *, max_context: int | None) -> None:
    """Write the fp32 graphs, their weights and `DualRecord` to the directory `out`.

    Raises:
        Refused: the model cannot be exported.
        ExportError: a graph does not compute what PyTorch does.
    """
    shape = read_dual_shape(source, max_context=max_context)
    with quiet():
        model = load_weights(source, AutoModel, matters=_matters)
    weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    text_graph(shape, weights).save(out / TEXT_FILE)
    image_graph(shape, weights).save(out / IMAGE_FILE)
    record = DualRecord(
        text_io=TEXT_IO,
        image_io=IMAGE_IO,
        steps=shape.steps,
        likelihood=Likelihood(
            function=shape.family.function,
            scale=math.exp(float(weights["logit_scale"].reshape(()))),
            bias=float(weights["logit_bias"].reshape(())) if "logit_bias" in weights else 0.0,
        ),
        context_length=shape.context_length,
        vocab_size=shape.vocabulary,
        pad_token_id=shape.pad_id,
        is_padded=not shape.family.is_causal,
        dimensions=shape.dimensions,
        patches=shape.patches,
        difference=0.0,
    )
    difference = compare(model, shape, session_of(out, record))
    if not difference <= MAX_DIFFERENCE:
        raise ExportError(f"the exported graphs differ from PyTorch by {difference:.2g}")
    msgspec.structs.replace(record, difference=difference).write(out)


def compare(model: Any, shape: DualShape, session: DualEncoderSession) -> float:
    """The greatest difference between what the graphs and eager PyTorch make of texts and patterns,
    in any number of a vector: of each text alone, and of all of them padded to one length."""
    random = np.random.default_rng(CHECK_SEED)
    end = shape.vocabulary - 1 if shape.end_id is None else shape.end_id
    known = np.delete(np.arange(shape.vocabulary), [shape.pad_id, end])
    lengths = [min(length, shape.context_length - 1) for length in CHECK_LENGTHS]
    rows = [[*random.choice(known, length).tolist(), end] for length in lengths]
    pictures = [pattern(number, shape.side, shape.side) for number in CHECK_PICTURES]
    pixels = normalised(np.stack(pictures), level_table(shape.steps))
    told = [vectors_of(model, shape, [row], pixels) for row in rows]
    wanted, seen = np.concatenate([texts for texts, _ in told]), told[0][1]
    found = [session.read(rows), np.concatenate([session.read([row]) for row in rows])]
    differences = [float(np.abs(vectors - wanted).max()) for vectors in found]
    return max(*differences, float(np.abs(session.see(pictures) - seen).max()))


def vectors_of(
    model: Any, shape: DualShape, rows: Sequence[Sequence[int]], pixels: NDArray[np.float32]
) -> tuple[Floats, Floats]:
    """What eager PyTorch makes of texts of one length and of pictures, of length 1."""
    width = len(rows[0]) if shape.family.is_causal else shape.context_length
    ids = [[*row, *[shape.pad_id] * (width - len(row))] for row in rows]
    with torch.no_grad(), quiet():
        made = model(input_ids=torch.tensor(ids), pixel_values=torch.from_numpy(pixels))
    return made.text_embeds.numpy(), made.image_embeds.numpy()


def _matters(weight: str) -> bool:
    """Whether a weight has a part in it: numbers of positions, which old files hold, have none."""
    return not weight.endswith("position_ids")
