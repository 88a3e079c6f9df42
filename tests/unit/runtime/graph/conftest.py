"""The tiny decoder in both forms that an executor runs."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from exporters.graph.native import write_native
from exporters.graph.records import SEGMENTS, native_layout
from nsedge import native
from nsedge.bundle.causal_lm import Variant
from nsedge.native import REQUIREMENT
from nsedge.runtime.graph.executor import Source
from tests.unit.tiny_decoder import IO, LAYOUT, VOCABULARY, WIDTH, save, tiny_graph


@pytest.fixture(params=["rows", "native"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    graph, io, kv, requires = save(tiny_graph(), tmp_path), IO, LAYOUT, ()
    if request.param == "native":
        if (reason := native.why_not()) is not None:
            pytest.skip(reason)
        _give_scale(graph)
        assert write_native(graph, tmp_path / "native.onnx") is None
        graph, requires = tmp_path / "native.onnx", (REQUIREMENT,)
        io = type(IO)(segments=SEGMENTS)
        kv = native_layout(LAYOUT)
    variant = Variant(
        name="v", device="cpu", scheme="fp32", graph=graph.name, io=io, kv=kv, requires=requires
    )
    return Source(
        graph=graph, variant=variant, vocab_size=VOCABULARY, slots=4, capacity=32, threads=1
    )


def _give_scale(path: Path) -> None:
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            node.attribute.append(onnx.helper.make_attribute("scale", WIDTH**-0.5))
    onnx.save(model, path)
