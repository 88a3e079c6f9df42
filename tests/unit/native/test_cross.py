"""CrossAttention and CrossAppend against plain NumPy, through ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from exporters.conditioned.native import APPEND, ATTENTION
from nsedge import native
from nsedge.bundle.causal_lm import TOKEN_SCALE_BYTES
from tests.unit.native_nodes import Floats, session

pytestmark = pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))

HEADS, DIM, FRAMES, CAPACITY, ROWS = 3, 32, 83, 96, 4
WIDTH = HEADS * DIM
INT8 = {"past_key": TensorProto.INT8, "past_value": TensorProto.INT8}


class Memory:
    """A memory, what was written to it in floats, and the two operators over it."""

    def __init__(self) -> None:
        shape = (ROWS, HEADS, CAPACITY, DIM + TOKEN_SCALE_BYTES)
        # Full of bytes that are NaN where they are taken for scales.
        self.arrays = [np.full(shape, -1, np.int8) for _ in range(2)]
        self.written: dict[int, tuple[Floats, Floats]] = {}
        names = ["key", "value", "past_key", "past_value", "segments"]
        node = helper.make_node(
            APPEND, names, ["present_key", "present_value"], domain=native.DOMAIN, num_heads=HEADS
        )
        inputs = {"key": TensorProto.FLOAT, "value": TensorProto.FLOAT, **INT8}
        inputs["segments"] = TensorProto.INT32
        self._append = session(node, inputs, ["present_key", "present_value"])
        names = ["q", "past_key", "past_value", "segments"]
        node = helper.make_node(
            ATTENTION, names, ["y"], domain=native.DOMAIN, num_heads=HEADS, scale=DIM**-0.5
        )
        inputs = {"q": TensorProto.FLOAT, **INT8, "segments": TensorProto.INT32}
        self._attend = session(node, inputs, ["y"])

    def append(self, row: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        key, value = random.normal(size=(2, FRAMES, WIDTH)).astype(np.float32)
        self.written[row] = key, value
        binding = self._append.io_binding()
        binding.bind_cpu_input("key", key[None])
        binding.bind_cpu_input("value", value[None])
        binding.bind_cpu_input("segments", np.array([(row, 0, FRAMES)], np.int32))
        for name, array in zip(("key", "value"), self.arrays, strict=True):
            place = ("cpu", 0, np.int8, array.shape, array.ctypes.data)
            binding.bind_input(f"past_{name}", *place)
            binding.bind_output(f"present_{name}", *place)
        self._append.run_with_iobinding(binding)

    def attend(self, q: Floats, segments: list[tuple[int, int, int]]) -> Floats:
        feeds: dict[str, NDArray[Any]] = {
            "q": q[None],
            "past_key": self.arrays[0],
            "past_value": self.arrays[1],
            "segments": np.array(segments, np.int32).reshape(-1, 3),
        }
        found: Floats = self._attend.run(None, feeds)[0][0]
        return found

    def exact(self, q: Floats, row: int, length: int) -> Floats:
        key, value = (one[:length].reshape(length, HEADS, DIM) for one in self.written[row])
        scores = np.einsum("thd,khd->htk", q.reshape(-1, HEADS, DIM), key) * DIM**-0.5
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return np.einsum("htk,khd->thd", weights, value).reshape(len(q), WIDTH)


@pytest.fixture
def memory() -> Memory:
    made = Memory()
    for row in (2, 0, 3):
        made.append(row, seed=row)
    return made


def queries(count: int) -> Floats:
    return np.random.default_rng(9).normal(size=(count, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 6, 7, 31])
def test_every_token_sees_all_of_its_row(memory: Memory, count: int) -> None:
    q = queries(count)
    for row in (0, 2, 3):
        found = memory.attend(q, [(row, FRAMES, count)])
        assert np.abs(found - memory.exact(q, row, FRAMES)).max() < 0.03


def test_a_token_is_the_same_to_the_bit_in_any_company(memory: Memory) -> None:
    q = queries(9)
    segments = [(2, FRAMES, 1), (0, FRAMES, 5), (2, FRAMES, 2), (3, 40, 1)]
    together = memory.attend(q, segments)
    first = 0
    for row, length, count in segments:
        alone = memory.attend(q[first : first + count], [(row, length, count)])
        assert (together[first : first + count] == alone).all()
        first += count
    assert np.abs(together[8:] - memory.exact(q[8:], 3, 40)).max() < 0.03


def test_a_row_is_written_anew(memory: Memory) -> None:
    q = queries(2)
    memory.append(0, seed=77)
    found = memory.attend(q, [(0, FRAMES, 2)])
    assert np.abs(found - memory.exact(q, 0, FRAMES)).max() < 0.03
    assert np.abs(memory.attend(q, [(2, FRAMES, 2)]) - memory.exact(q, 2, FRAMES)).max() < 0.03


@pytest.mark.parametrize(
    ("segments", "told"),
    [
        ([(4, FRAMES, 2)], "a segment is of no row"),
        ([(-1, FRAMES, 2)], "a segment is of no row"),
        ([(0, 0, 2)], "longer than the cache"),
        ([(0, CAPACITY + 1, 2)], "longer than the cache"),
        ([(0, FRAMES, 1)], "not all of the tokens"),
        ([], "not all of the tokens"),
    ],
)
def test_segments_that_are_none_are_refused(
    memory: Memory, segments: list[tuple[int, int, int]], told: str
) -> None:
    with pytest.raises(Exception, match=told):
        memory.attend(queries(2), segments)
