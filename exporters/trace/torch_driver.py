"""Drive PyTorch's own exporter, where Optimum does not run: beside transformers 5."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from exporters.trace.decoder_trace import Rotary, traceable
from exporters.trace.signature import RAW_FILE, Signature


def export(
    model: Any, out: Path, signature: Signature, *, rotary: Rotary, positions: int, opset: int
) -> None:
    """Write the raw graph of `model` to `RAW_FILE` in `out`.

    Raises:
        Refused: the model's attention cannot be exchanged.
        RotaryUnfit: `Rotary.INSIDE` does not suit it.
    """
    inputs, outputs = signature.inputs(), signature.outputs()
    example = signature.example(model.config.get_text_config().vocab_size)
    layers = signature.kv.layers
    with (
        torch.no_grad(),
        traceable(model, model.forward, layers=layers, rotary=rotary, positions=positions) as trace,
        patch.object(model, "forward", trace.forward),
    ):
        torch.onnx.export(
            model,
            (example,),  # by name: not all of the arguments are there
            str(out / RAW_FILE),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=inputs | outputs,
            opset_version=opset,
            dynamo=False,  # the symbols of our operators are TorchScript's, as Optimum's trace is
        )
