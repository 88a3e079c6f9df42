"""A graph made node by node of a model's weights, by the names that PyTorch gives these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, ValueInfoProto, helper

from exporters.graph.graph import Graph

Floats = NDArray[np.float32]


class Builder:
    """Keeps nodes and weights as they come. Methods give the name of the value that they make."""

    def __init__(self, weights: Mapping[str, Floats], *, epsilon: float) -> None:
        """epsilon: of all norms."""
        self._source = weights
        self._epsilon = epsilon
        self._nodes: list[NodeProto] = []
        self._weights: dict[str, Any] = {}

    def _built(self, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> Graph:
        """All that was added."""
        return Graph(
            nodes=self._nodes, inputs=list(inputs), outputs=list(outputs), weights=self._weights
        )

    def _linear(self, name: str, value: str) -> str:
        """`value` times a linear map, and its bias."""
        weight, bias = self._source[f"{name}.weight"].T, self._source[f"{name}.bias"]
        return self._projected(name, value, weight, bias)

    def _projected(self, name: str, value: str, weight: Floats, bias: Floats) -> str:
        product = self._multiplied(name, value, weight)
        return self._add("Add", f"{name}+bias", [product, self._keep(f"{name}.bias", bias)])

    def _multiplied(self, name: str, value: str, weight: Floats) -> str:
        """`value` times a matrix [K, N]."""
        kept = self._keep(f"{name}.weight", np.ascontiguousarray(weight))
        return self._add("MatMul", name, [value, kept])

    def _normed(self, name: str, value: str) -> str:
        inputs = [value, self._vector(f"{name}.weight"), self._vector(f"{name}.bias")]
        return self._add("LayerNormalization", name, inputs, axis=-1, epsilon=self._epsilon)

    def _split(self, name: str, value: str, sizes: Sequence[int], parts: Sequence[str]) -> None:
        """`parts` of these sizes along the last axis."""
        kept = self._keep(f"sizes/{'_'.join(map(str, sizes))}", np.array(sizes))
        self._nodes.append(
            helper.make_node("Split", [value, kept], list(parts), name=name, axis=-1)
        )

    def _vector(self, name: str) -> str:
        return self._keep(name, self._source[name])

    def _keep(self, name: str, array: NDArray[Any]) -> str:
        self._weights[name] = array
        return name

    def _add(
        self, kind: str, name: str, inputs: list[str], output: str | None = None, **options: Any
    ) -> str:
        made = output or f"{name}/out"
        self._nodes.append(helper.make_node(kind, inputs, [made], name=name, **options))
        return made
