"""The weights of a BERT graph in 4-bit blocks, under the names that PyTorch gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper
from safetensors.numpy import save_file

from exporters.errors import ExportError
from exporters.graph.graph import attribute

PRODUCT, SUFFIX = "MatMulNBits", "/MatMul_Q4"
TABLE = ".weight_quantized"
MIDDLE = 8
"""The level of 0, where blocks have none of their own."""

Floats = NDArray[np.float32]


def write_weights(model: bytes, folder: Path) -> None:
    """Write `model.safetensors` to `folder` of an ONNX graph.

    Raises:
        ExportError: a product is not by blocks of 4 bits around their middle.
    """
    graph = onnx.load_from_string(model).graph
    found = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    weights = {
        name: np.asarray(array, np.float32)
        for name, array in found.items()
        if name.endswith((".bias", ".weight"))
    }
    for name in found:
        if name.endswith(TABLE):
            own = name.removesuffix("_quantized")
            levels = found[name].astype(np.float32) - found[f"{own}_zero_point"].astype(np.float32)
            weights[own] = np.asarray(levels * found[f"{own}_scale"], np.float32)
    for node in graph.node:
        if node.op_type == PRODUCT:
            name = node.name.removesuffix(SUFFIX).strip("/").replace("/", ".")
            weights[f"{name}.weight"] = _matrix(node, found)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _matrix(node: NodeProto, found: dict[str, NDArray[np.uint8]]) -> Floats:
    """A product's matrix [N, K], as PyTorch has it."""
    bits, rows, width = (attribute(node, name) for name in ("bits", "N", "K"))
    if bits != 4 or len([name for name in node.input if name]) != 3:
        raise ExportError(f"{node.name} is not by 4-bit blocks around their middle")
    packed, scales = found[node.input[1]], found[node.input[2]]
    levels = np.stack([packed & 15, packed >> 4], axis=-1).reshape(rows, -1, packed.shape[-1] * 2)
    blocks = (levels.astype(np.float32) - MIDDLE) * scales.reshape(rows, -1, 1)
    return np.ascontiguousarray(blocks.reshape(rows, -1)[:, :width], np.float32)
