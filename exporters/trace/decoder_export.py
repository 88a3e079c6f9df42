"""A causal LM in, the raw ONNX graph around GroupQueryAttention out."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from exporters.trace import torch_driver
from exporters.trace.decoder_trace import Rotary, RotaryUnfit, traceable
from exporters.trace.quiet import quiet
from exporters.trace.signature import Signature
from nsedge.bundle.causal_lm import GraphIo, KvLayout, MediaIo

OPSET = 18


def has_optimum() -> bool:
    """Whether Optimum's ONNX exporter is installed; beside transformers 5 it is not."""
    try:
        return importlib.util.find_spec("optimum.exporters.onnx") is not None
    except ModuleNotFoundError:
        return False


def export_raw(
    model: Any,
    out: Path,
    *,
    kv: KvLayout,
    positions: int,
    media: MediaIo | None = None,
    optimum: bool | None = None,
) -> GraphIo:
    """Write `RAW_FILE` to `out`; the rotary embedding goes into the operator where it fits.

    `media`: names for rows in the place of tokens, where there may be some. `optimum`: whether
    Optimum drives; None where it is installed.

    Raises:
        Refused: the model's attention cannot be exchanged.
    """
    export = partial(
        _driver(has_optimum() if optimum is None else optimum),
        *(model, out),
        positions=positions,
        opset=OPSET,
    )
    with quiet():
        hidden = model.config.get_text_config().hidden_size
        if media is not None and media.axes > 1:
            io = GraphIo(position_ids="position_ids", media=media)
            export(Signature(io=io, kv=kv, hidden=hidden), rotary=Rotary.AXES)
            return io
        try:
            io = GraphIo(media=media)
            _check_positions(model, Signature(io=io, kv=kv, hidden=hidden), positions)
            export(Signature(io=io, kv=kv, hidden=hidden), rotary=Rotary.INSIDE)
        except RotaryUnfit:
            io = GraphIo(position_ids="position_ids", media=media)
            export(Signature(io=io, kv=kv, hidden=hidden), rotary=Rotary.GRAPH)
    return io


def _check_positions(model: Any, signature: Signature, positions: int) -> None:
    """Run the model with its rotary embedding in the operator, told different positions.

    Raises:
        RotaryUnfit: it computes something else from them, too, as scaled queries.
    """
    example = signature.example(model.config.get_text_config().vocab_size)
    layers = signature.kv.layers
    with (
        torch.no_grad(),
        traceable(
            model, model.forward, layers=layers, rotary=Rotary.INSIDE, positions=positions
        ) as trace,
    ):
        first, last = (
            trace.forward(**example, position_ids=torch.full_like(example["input_ids"], at))
            for at in (0, positions - 1)
        )
    if not torch.equal(first["logits"], last["logits"]):
        raise RotaryUnfit("it uses positions for more than the rotary embedding")


def _driver(optimum: bool) -> Callable[..., None]:
    if not optimum:
        return torch_driver.export
    from exporters.trace import optimum_driver  # it is not installed everywhere

    return optimum_driver.export
