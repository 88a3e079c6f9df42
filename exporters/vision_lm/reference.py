"""The fp32 graphs of a model that sees, traced and held to PyTorch: its encoder, its decoder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from exporters.errors import ExportError, Refused
from exporters.graph.graph import OPSET, Graph
from exporters.model.phi4 import PhiSource
from exporters.model.source import Source
from exporters.model.vision_sources import vision_source
from exporters.trace.clean import clean_encoder
from exporters.trace.quiet import quiet
from exporters.trace.reference import load_weights, write_reference
from exporters.vision_lm import phi4
from exporters.vision_lm.records import IMAGE_FILE, ImageRecord, session_of
from exporters.vision_lm.towers import Encoder, decoder_of, encoder_of, traceable_encoder
from exporters.vision_lm.truths import truths_of
from nsedge.bundle.causal_lm import MediaIo

MAX_DIFFERENCE = 1e-4
"""Of any number of a row, as a share of the greatest."""
RAW_FILE = "raw.onnx"
BLOCKS = "media_blocks"


def load_model(source: Source) -> Any:
    """The whole model in PyTorch.

    Raises:
        Refused: transformers cannot build it, or not of these weights.
    """
    is_causal = isinstance(vision_source(source), PhiSource)
    kind = AutoModelForCausalLM if is_causal else AutoModelForImageTextToText
    with quiet():
        return load_weights(source, kind, matters=_matters)


def make_decoder(source: Source, out: Path, max_context: int) -> None:
    """Write the decoder's fp32 graph, with inputs for rows of pictures; raises what
    `write_reference` does."""
    read = vision_source(source)
    media = MediaIo(axes=read.position_axes, blocks=BLOCKS if read.together else None)
    write_reference(
        decoder_of(load_model(source)), source, out, max_context=max_context, media=media
    )


def make_encoder(source: Source, out: Path) -> None:
    """Write the encoder's fp32 graph and `ImageRecord` to the directory `out`.

    Raises:
        Refused: the encoder has no form here.
        ExportError: the graph does not compute what PyTorch does.
    """
    seen, model = vision_source(source), load_model(source)
    if isinstance(seen, PhiSource):
        phi4.make_crop_encoder(model, seen, out)
        return
    with quiet():
        truths = truths_of(model, seen)
    rows, hidden = truths[0].rows.shape
    pictures = seen.pictures(rows)
    try:
        encoder = encoder_of(model, pictures)
        trace(encoder).save(out / IMAGE_FILE)
    except Refused:
        raise
    except Exception as error:  # whatever a model's own code raises while it is traced
        told = " ".join(str(error).split())[:300]
        raise Refused(
            f"the encoder of {type(model).__name__} cannot be traced:"
            f" {type(error).__name__}: {told}"
        ) from error
    record = ImageRecord(io=encoder.io, pictures=pictures, hidden=hidden, difference=0.0)
    session = session_of(out, record)
    greatest = max(float(np.abs(truth.rows).max()) for truth in truths)
    difference = max(truth.distance(session) for truth in truths) / greatest
    if not difference <= MAX_DIFFERENCE:
        raise ExportError(f"the encoder's graph differs from PyTorch by {difference:.2g}")
    msgspec.structs.replace(record, difference=difference).write(out)


def make_ears(source: Source, out: Path) -> None:
    """Write the fp32 graph of the encoder of sound and `SoundRecord` to the directory `out`; raises
    what `make_encoder` does."""
    read = vision_source(source)
    if not isinstance(read, PhiSource):
        raise Refused(f"{source.folder}: this model does not hear")
    phi4.make_sound_encoder(load_model(source), read, out)


def trace(encoder: Encoder) -> Graph:
    """The graph of an encoder.

    Raises:
        Exception: whatever the model's own code raises while it is traced.
    """
    raw, given = Path(tempfile.mkdtemp()), list(encoder.names.values())
    embeds = encoder.io.embeds
    try:
        with torch.no_grad(), quiet(), traceable_encoder(encoder.module):
            torch.onnx.export(
                encoder.module,
                tuple(encoder.example.values()),
                str(raw / RAW_FILE),
                input_names=given,
                output_names=[embeds],
                dynamic_axes={name: {0: f"{name}_count"} for name in (*given, embeds)},
                opset_version=OPSET,
                dynamo=False,
            )
        graph = Graph.load(raw / RAW_FILE)
        graph.weights = {name: np.array(array) for name, array in graph.weights.items()}
    finally:
        shutil.rmtree(raw)
    clean_encoder(graph)
    return graph


def _matters(weight: str) -> bool:
    """Whether a weight has a part in it: numbers of positions, which old files hold, have none."""
    return not weight.endswith("position_ids")
