"""One node of the native operators in a model of its own, and random weights for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from exporters.graph.native import MATMUL
from nsedge import native

Floats = NDArray[np.float32]
HALF_STEP = {4: 0.5 / 127, 5: 0.5 / 127, 6: 0.5 / 127, 8: 0.5 / 32767}
"""Rounding of x, as a share of its greatest absolute, by bits of the weights as they are packed."""


def session(
    nodes: NodeProto | list[NodeProto], inputs: dict[str, int], outputs: list[str], **weights: Any
) -> Any:
    graph = helper.make_graph(
        nodes if isinstance(nodes, list) else [nodes],
        "one",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in inputs.items()],
        [
            helper.make_tensor_value_info(
                n, TensorProto.INT8 if "present" in n else TensorProto.FLOAT, None
            )
            for n in outputs
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(native.DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 4
    options.register_custom_ops_library(str(native.library()))
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


class Matrix:
    """Random weights in blocks, as bytes and as numbers [N, K].

    5 and 6 bits are of 8-bit weights that are so near to their middle.
    """

    def __init__(self, n: int, k: int, *, bits: int, block: int, sides: str = "") -> None:
        rng = np.random.default_rng(n * k + bits)
        self.n, self.k, self.block = n, k, block
        self.bits, self.packed = (bits if bits == 4 else 8), bits
        blocks = -(-k // block)
        low = 2 ** (self.bits - 1) - 2 ** (bits - 1)
        q = rng.integers(low, low + 2**bits, (n, blocks, block), dtype=np.uint8)
        self.parts: dict[str, NDArray[Any]] = {
            "q": q if self.bits == 8 else q[..., 0::2] | q[..., 1::2] << 4,
            "scales": rng.uniform(0.5, 1.5, (n, blocks)).astype(np.float32),
        }
        zeros = np.full((n, blocks), 2 ** (self.bits - 1))
        if "zeros" in sides:
            zeros = rng.integers(0, 2**self.bits, (n, blocks))
            packed = np.pad(zeros, [(0, 0), (0, blocks % 2)]).astype(np.uint8)
            both = packed[:, 0::2] | packed[:, 1::2] << 4
            self.parts["zeros"] = zeros.astype(np.uint8) if self.bits == 8 else both
        offsets = np.zeros((n, blocks), np.float32)
        if "offsets" in sides:
            offsets = rng.normal(size=(n, blocks)).astype(np.float32)
            self.parts["offsets"] = offsets
        self.bias = np.zeros(n, np.float32)
        if "bias" in sides:
            self.bias = rng.normal(size=n).astype(np.float32)
            self.parts["bias"] = self.bias
        exact = (q - zeros[..., None].astype(float)) * self.parts["scales"][..., None]
        self.weight = (exact + offsets[..., None]).reshape(n, -1)[:, :k]

    def open(self, *, gated: bool = False) -> Any:
        names = ["q", "scales", "zeros", "offsets", "bias"]
        node = helper.make_node(
            MATMUL,
            ["x", *(name if name in self.parts else "" for name in names)],
            ["y"],
            domain=native.DOMAIN,
            N=self.n,
            K=self.k,
            bits=self.bits,
            block_size=self.block,
            gated=int(gated),
        )
        return session(node, {"x": TensorProto.FLOAT}, ["y"], **self.parts)

    def tolerance(self, x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """What rounding `x` [M, K] may change a sum by, at most; [M, N]."""
        peak = np.abs(x).max(-1, keepdims=True)
        worst = peak * HALF_STEP[self.packed] * np.abs(self.weight).sum(-1)
        return worst + 1e-4 * (np.abs(x) @ np.abs(self.weight).T) + 1e-5


def rows_of(count: int, width: int) -> Floats:
    return np.random.default_rng(width).normal(size=(count, width)).astype(np.float32)
