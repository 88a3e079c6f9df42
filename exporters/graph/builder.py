"""Builds a graph node by node of a model's weights, by their names in the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

Floats = NDArray[np.float32]


class Builder:
    """Nodes and the weights that they read. A node is called as the part of the model that it does,
    and gives NAME/out where nothing else is said."""

    def __init__(self, source: Mapping[str, Floats], *, epsilon: float) -> None:
        """`epsilon` is that of all norms."""
        self.source = source
        self.nodes: list[NodeProto] = []
        self.weights: dict[str, NDArray[Any]] = {}
        self._epsilon = epsilon

    def keep(self, name: str, array: NDArray[Any]) -> str:
        """Keep a weight; its name."""
        self.weights[name] = array
        return name

    def add(
        self, kind: str, name: str, inputs: list[str], output: str | None = None, **options: Any
    ) -> str:
        """Add a node of one output, which is given back."""
        made = output or f"{name}/out"
        self.nodes.append(helper.make_node(kind, inputs, [made], name=name, **options))
        return made

    def split(self, name: str, value: str, sizes: list[int]) -> list[str]:
        """Cut a value along its last axis."""
        parts = [f"{name}/{part}" for part in range(len(sizes))]
        widths = self.keep(f"{name}/sizes", np.array(sizes))
        self.nodes.append(helper.make_node("Split", [value, widths], parts, name=name, axis=-1))
        return parts

    def reshape(self, name: str, value: str, shape: list[int], output: str | None = None) -> str:
        """A value in another shape."""
        sizes = self.keep(f"{name}/shape", np.array(shape))
        return self.add("Reshape", name, [value, sizes], output)

    def linear(self, name: str, value: str) -> str:
        """`value` times a linear map of the model, and its bias."""
        return self.joint(name, value, [name])

    def joint(self, name: str, value: str, parts: list[str]) -> str:
        """`value` times several linear maps at once, one after the other; those without a bias have
        zeros."""
        weights = [self.source[f"{part}.weight"].T for part in parts]
        biases = [
            self.source.get(f"{part}.bias", np.zeros(weight.shape[1], np.float32))
            for part, weight in zip(parts, weights, strict=True)
        ]
        kept = self.keep(f"{name}.weight", np.ascontiguousarray(np.concatenate(weights, axis=1)))
        product = self.add("MatMul", name, [value, kept])
        bias = self.keep(f"{name}.bias", np.concatenate(biases))
        return self.add("Add", f"{name}+bias", [product, bias])

    def normed(self, name: str, value: str) -> str:
        """A layer norm of the model over `value`."""
        inputs = [value, self.vector(f"{name}.weight"), self.vector(f"{name}.bias")]
        return self.add("LayerNormalization", name, inputs, axis=-1, epsilon=self._epsilon)

    def vector(self, name: str) -> str:
        """A weight of the model as it is."""
        return self.keep(name, np.ascontiguousarray(self.source[name]))
