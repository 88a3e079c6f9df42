"""Gelu and GeluRows against plain NumPy, through ONNX Runtime."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import erf, sqrt
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from exporters.conditioned.native import GELU, GELU_ROWS
from nsedge import native
from tests.unit.native_nodes import Floats, session

pytestmark = pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))

LEAST, LEVELS, ZERO = 2.5, 239.0, 16.0


def way(name: str) -> AbstractContextManager[None]:
    return native.plainly() if name == "plain" else nullcontext()


def exact(x: Floats) -> Floats:
    return np.asarray(x * (1 + np.vectorize(erf)(x.astype(np.float64) / sqrt(2))) / 2, np.float32)


def rounding() -> Any:
    node = helper.make_node(
        GELU_ROWS,
        ["x"],
        ["rows", "size"],
        domain=native.DOMAIN,
        least=LEAST,
        levels=LEVELS,
        zero=ZERO,
    )
    outputs = [("rows", TensorProto.UINT8), ("size", TensorProto.FLOAT)]
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(native.DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(native.library()))
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("name", ["best", "plain"])
@pytest.mark.parametrize("shape", [(1,), (5, 7), (2, 3, 4096), (0, 8), (40_003,)])
def test_gelu_of_any_shape(name: str, shape: tuple[int, ...]) -> None:
    node = helper.make_node(GELU, ["x"], ["y"], domain=native.DOMAIN)
    x = np.random.default_rng(len(shape)).normal(scale=3.0, size=shape).astype(np.float32)
    with way(name):
        found = session(node, {"x": TensorProto.FLOAT}, ["y"]).run(None, {"x": x})[0]
    assert found.shape == shape
    if x.size:
        assert np.abs(found - exact(x)).max() < 1e-6 * np.abs(x).max()


def test_gelu_far_out() -> None:
    node = helper.make_node(GELU, ["x"], ["y"], domain=native.DOMAIN)
    x = np.array([-1e30, -50.0, -0.0, 0.0, 50.0, 1e30], np.float32)
    found = session(node, {"x": TensorProto.FLOAT}, ["y"]).run(None, {"x": x})[0]
    assert np.abs(found[:4]).max() < 1e-3
    assert (found[4:] == x[4:]).all()


@pytest.mark.parametrize("name", ["best", "plain"])
def test_rows_have_a_scale_each(name: str) -> None:
    x = np.random.default_rng(2).normal(size=(3, 31, 96)).astype(np.float32)
    x *= np.linspace(0.1, 9.0, 31, dtype=np.float32)[:, None]
    with way(name):
        rows, size = rounding().run(None, {"x": x})
    wanted = exact(x)
    assert (rows.dtype, rows.shape, size.shape) == (np.uint8, x.shape, (3, 31, 1))
    assert np.abs(size - np.maximum(wanted.max(-1, keepdims=True), LEAST)).max() < 1e-5
    steps = size / np.float32(LEVELS)
    assert (np.abs((rows - np.float32(ZERO)) * steps - wanted) <= 0.501 * steps).all()


def test_both_ways_round_alike() -> None:
    x = np.random.default_rng(3).normal(scale=2.0, size=(64, 256)).astype(np.float32)
    model = rounding()
    rows, _ = model.run(None, {"x": x})
    with native.plainly():
        plain, _ = model.run(None, {"x": x})
    differing = np.abs(rows.astype(int) - plain)
    assert differing.max() <= 1
    assert (differing > 0).mean() < 0.001


def test_a_row_that_is_no_multiple_of_16_is_refused() -> None:
    with pytest.raises(Exception, match="a multiple of 16 wide"):
        rounding().run(None, {"x": np.zeros((2, 24), np.float32)})


def test_a_run_may_pause_before() -> None:
    paused = []
    with native.pausing(lambda: paused.append(True)):
        rounding().run(None, {"x": np.zeros((2, 32), np.float32)})
    assert paused == [True]
