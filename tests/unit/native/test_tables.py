"""Packed weights that several nodes or sessions read: tied tables, and sessions of one model."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from exporters.graph.native import MATMUL, ROWS
from nsedge import native
from tests.unit.native_nodes import Matrix, rows_of, session

pytestmark = pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))


@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize(
    ("n", "k", "bits", "block"),
    [(40, 96, 8, 32), (17, 70, 8, 64), (17, 70, 8, 16), (40, 96, 5, 32), (17, 70, 6, 16)],
)
def test_rows_of_a_table_are_what_its_blocks_say(
    n: int, k: int, bits: int, block: int, halves: bool
) -> None:
    table = Matrix(n, k, bits=bits, block=block)
    if halves:
        rounded = table.parts["scales"].astype(np.float16).astype(np.float32)
        table.parts["scales"] = rounded
    found = rows_session(table).run(None, {"ids": np.array([[n - 1, 0, 16], [3, 3, 5]])})[0]
    scales = np.repeat(table.parts["scales"], block, axis=1)[:, :k]
    q = table.parts["q"].reshape(n, -1)[:, :k].astype(np.float32) - 128
    assert found.shape == (2, 3, k)
    np.testing.assert_array_equal(found, (q * scales)[[[n - 1, 0, 16], [3, 3, 5]]])


@pytest.mark.parametrize("wrong", [-1, 40])
def test_an_id_that_no_row_has_is_refused(wrong: int) -> None:
    opened = rows_session(Matrix(40, 96, bits=8, block=32))
    with pytest.raises(Exception, match="an id is not in the vocabulary"):
        opened.run(None, {"ids": np.array([0, wrong])})


def test_a_table_and_the_head_that_is_tied_to_it_are_packed_once() -> None:
    table = Matrix(64, 96, bits=8, block=32)
    x = rows_of(2, 96)
    nodes = [
        rows_node(table),
        helper.make_node("Add", ["rows", "x"], ["sum"]),
        helper.make_node(
            MATMUL,
            ["sum", "q", "scales", "", "", ""],
            ["y"],
            domain=native.DOMAIN,
            N=64,
            K=96,
            bits=8,
            block_size=32,
            gated=0,
        ),
    ]
    inputs = {"ids": TensorProto.INT64, "x": TensorProto.FLOAT}
    found = session(nodes, inputs, ["y"], **table.parts).run(
        None, {"ids": np.array([7, 63]), "x": x}
    )[0]
    summed = table.weight[[7, 63]] + x
    assert np.abs(found - summed @ table.weight.T).max() <= table.tolerance(summed).max()


def test_sessions_of_a_group_hold_the_same_weights_once() -> None:
    table = Matrix(4096, 4096, bits=8, block=32)  # 17 MiB when packed
    x = rows_of(1, 4096)
    opened = []
    grown = []
    for group in (7, 7, 7, 8, 9, 0, 0):  # the first ones also grow the heap
        before = anonymous_mebibytes()
        with native.sharing(group):
            opened.append(table.open())
        grown.append(anonymous_mebibytes() - before)
    _, _, shared, *apart = grown
    assert min(apart) - shared > 12
    first = opened.pop(0).run(None, {"x": x})[0]
    for other in opened:
        np.testing.assert_array_equal(other.run(None, {"x": x})[0], first)


def anonymous_mebibytes() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def rows_node(table: Matrix) -> NodeProto:
    return helper.make_node(
        ROWS,
        ["ids", "q", "scales"],
        ["rows"],
        domain=native.DOMAIN,
        N=table.n,
        K=table.k,
        block_size=table.block,
    )


def rows_session(table: Matrix) -> Any:
    return session([rows_node(table)], {"ids": TensorProto.INT64}, ["rows"], **table.parts)


@pytest.mark.parametrize(("bits", "block"), [(5, 32), (6, 16)])
def test_weights_near_their_middle_are_packed_in_fewer_bits(bits: int, block: int) -> None:
    """Which shows in how x is rounded; one weight that is too far keeps 8 bits for all."""
    table, x = Matrix(32, 96, bits=bits, block=block), rows_of(4, 96)
    for packed in (bits, 8):
        table.packed = 8
        off = np.abs(table.open().run(None, {"x": x})[0] - x @ table.weight.T)
        assert (off <= table.tolerance(x)).all() == (packed == 8)
        table.parts["q"][31, 1, 5] = 255
        table.weight[31, block + 5] = 127 * table.parts["scales"][31, 1]


def test_a_session_outlives_another_that_packed_the_same_weights() -> None:
    matrix, x = Matrix(64, 192, bits=4, block=32), rows_of(3, 192)
    with native.sharing(10):
        first, second = matrix.open(), matrix.open()
    wanted = first.run(None, {"x": x})[0]
    del first
    gc.collect()
    others = [Matrix(64, 192, bits=4, block=32, sides="zeros").open() for _ in range(3)]
    np.testing.assert_array_equal(second.run(None, {"x": x})[0], wanted)
    del others
    np.testing.assert_array_equal(matrix.open().run(None, {"x": x})[0], wanted)
