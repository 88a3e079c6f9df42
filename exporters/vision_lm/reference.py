"""The fp32 graphs of a model that sees, traced and held to PyTorch: its encoder, its decoder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from transformers import AutoModelForImageTextToText

from exporters.errors import ExportError, Refused
from exporters.graph.graph import OPSET, Graph
from exporters.model.source import Source
from exporters.model.vision_lm import TILED, vision_source
from exporters.trace.clean import clean_encoder
from exporters.trace.quiet import quiet
from exporters.trace.reference import load_weights, write_reference
from exporters.vision_lm.records import IMAGE_FILE, ImageRecord, session_of
from exporters.vision_lm.towers import decoder_of, encoder_of, traceable_encoder
from nsedge.bundle.causal_lm import MediaIo
from nsedge.bundle.vision_lm import ImageEncoderIo
from nsedge.runtime.vision.levels import level_table, normalised, pattern

MAX_DIFFERENCE = 1e-4
"""Of any number of a row, as a share of the greatest."""
CHECK_PICTURES = range(100, 103)
RAW_FILE = "raw.onnx"
IO = ImageEncoderIo()


def load_model(source: Source) -> Any:
    """The whole model in PyTorch.

    Raises:
        Refused: transformers cannot build it, or not of these weights.
    """
    with quiet():
        return load_weights(source, AutoModelForImageTextToText, matters=_matters)


def make_decoder(source: Source, out: Path, max_context: int) -> None:
    """Write the decoder's fp32 graph, with inputs for rows of pictures; raises what
    `write_reference` does."""
    write_reference(
        decoder_of(load_model(source)), source, out, max_context=max_context, media=MediaIo()
    )


def make_encoder(source: Source, out: Path) -> None:
    """Write the encoder's fp32 graph and `ImageRecord` to the directory `out`.

    Raises:
        Refused: the encoder has no form here.
        ExportError: the graph does not compute what PyTorch does.
    """
    steps, model = vision_source(source).steps(), load_model(source)
    pictures = np.stack([pattern(number, *steps.size) for number in CHECK_PICTURES])
    pixels = torch.from_numpy(normalised(pictures, level_table(steps)))
    with torch.no_grad(), quiet():
        wanted = features_of(model, pixels)
    try:
        trace(encoder_of(model, steps.size), pixels[:2]).save(out / IMAGE_FILE)
    except Refused:
        raise
    except Exception as error:  # whatever a model's own code raises while it is traced
        told = " ".join(str(error).split())[:300]
        raise Refused(
            f"the encoder of {type(model).__name__} cannot be traced:"
            f" {type(error).__name__}: {told}"
        ) from error
    rows, hidden = wanted.shape[1:]
    record = ImageRecord(io=IO, steps=steps, rows=rows, hidden=hidden, difference=0.0)
    found = session_of(out, record).see(list(pictures))
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not difference <= MAX_DIFFERENCE:
        raise ExportError(f"the encoder's graph differs from PyTorch by {difference:.2g}")
    msgspec.structs.replace(record, difference=difference).write(out)


def features_of(model: Any, pixels: torch.Tensor) -> Any:
    """What eager PyTorch makes of pictures, as the whole model has it made: [B, rows, hidden]."""
    several = model.config.model_type in TILED
    found = model.model.get_image_features(pixel_values=pixels[None] if several else pixels)
    return (torch.stack(list(found)) if isinstance(found, list | tuple) else found).numpy()


def trace(encoder: torch.nn.Module, pixels: torch.Tensor) -> Graph:
    """The graph of an encoder; `pixels` [B, 3, H, W] are an example.

    Raises:
        Exception: whatever the model's own code raises while it is traced.
    """
    raw = Path(tempfile.mkdtemp())
    try:
        with torch.no_grad(), quiet(), traceable_encoder(encoder):
            torch.onnx.export(
                encoder,
                (pixels,),
                str(raw / RAW_FILE),
                input_names=[IO.pixel_values],
                output_names=[IO.embeds],
                dynamic_axes={IO.pixel_values: {0: "pictures"}, IO.embeds: {0: "pictures"}},
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
