"""The native operators against plain NumPy, one node at a time, through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence as Many
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from exporters.graph.native import ATTENTION
from nsedge import native
from nsedge.bundle.causal_lm import TOKEN_SCALE_BYTES
from tests.unit.native_nodes import Floats, Matrix, rows_of, session

pytestmark = pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))

FORMS = [(4, 32), (5, 32), (6, 16), (8, 32)]
"""Bits and block of each kind of product that there is."""
SIDES = ("scales", "offsets")


@pytest.mark.parametrize("rows", [1, 2, 3, 6, 7, 16, 200])
@pytest.mark.parametrize(("bits", "block"), FORMS)
def test_products_of_any_number_of_rows(bits: int, block: int, rows: int) -> None:
    matrix = Matrix(48, 192, bits=bits, block=block)
    x = rows_of(rows, 192)
    y = matrix.open().run(None, {"x": x})[0]
    assert y.shape == (rows, 48)
    assert (np.abs(y - x @ matrix.weight.T) <= matrix.tolerance(x)).all()


@pytest.mark.parametrize("sides", ["", "zeros", "offsets", "bias", "zeros offsets bias"])
@pytest.mark.parametrize(("bits", "block"), [*FORMS, (4, 64), (8, 16), (8, 64), (8, 128)])
def test_every_side_and_block(bits: int, block: int, sides: str) -> None:
    matrix = Matrix(21, 200, bits=bits, block=block, sides=sides)  # no multiple of tile or block
    x = rows_of(5, 200).reshape(1, 5, 200)
    y = matrix.open().run(None, {"x": x})[0]
    wanted = x @ matrix.weight.T + matrix.bias
    assert y.shape == (1, 5, 21)
    assert (np.abs(y - wanted) <= matrix.tolerance(x[0])).all()


@pytest.mark.parametrize(("bits", "block"), FORMS)
def test_a_gate_is_applied_before_rounding(bits: int, block: int) -> None:
    matrix = Matrix(32, 100, bits=bits, block=block)
    both = rows_of(9, 200)
    gate, up = both[:, :100].astype(float), both[:, 100:]
    x = gate / (1 + np.exp(-gate)) * up
    y = matrix.open(gated=True).run(None, {"x": both})[0]
    assert (np.abs(y - x @ matrix.weight.T) <= matrix.tolerance(x)).all()


@pytest.mark.parametrize(("bits", "block"), FORMS)
def test_a_row_is_the_same_to_the_bit_whatever_is_beside_it(bits: int, block: int) -> None:
    run = Matrix(64, 256, bits=bits, block=block, sides="offsets").open().run
    x = rows_of(37, 256)
    together = run(None, {"x": x})[0]
    alone = np.concatenate([run(None, {"x": row[None]})[0] for row in x])
    assert (together == alone).all()


@pytest.mark.parametrize("sides", ["", "offsets"])
@pytest.mark.parametrize("rows", [*range(1, 14), 16, 31, 32, 211])
@pytest.mark.parametrize(("bits", "block"), FORMS)
def test_every_processor_computes_the_same_to_the_bit(
    bits: int, block: int, rows: int, sides: str
) -> None:
    run = Matrix(48, 200, bits=bits, block=block, sides=sides).open().run
    x = rows_of(rows, 200)
    x[0, 7] = np.nan
    here = run(None, {"x": x})[0]
    with native.plainly():
        np.testing.assert_array_equal(run(None, {"x": x})[0], here)


@pytest.mark.parametrize("blocks", range(1, 11))
def test_groups_of_rows_with_any_number_of_blocks(blocks: int) -> None:
    matrix = Matrix(21, 32 * blocks, bits=4, block=32, sides="zeros bias")
    x = rows_of(48, 32 * blocks)
    y = matrix.open().run(None, {"x": x})[0]
    assert (np.abs(y - x @ matrix.weight.T - matrix.bias) <= matrix.tolerance(x)).all()


def test_the_instructions_in_use_have_a_name() -> None:
    here = native.instructions()
    assert here in ("AVX2", "AVX-VNNI", "AVX-512 VNNI", "AMX and AVX-512 VNNI")
    with native.plainly():
        assert native.instructions() == "AVX2"


def test_zeros_and_extremes() -> None:
    matrix = Matrix(16, 64, bits=8, block=64)
    x = np.zeros((3, 64), np.float32)
    x[1] = 1e30
    x[2, 5] = -1e-30
    y = matrix.open().run(None, {"x": x})[0]
    assert (y[0] == 0).all()
    assert np.isfinite(y).all()
    assert np.allclose(y[1], 1e30 * matrix.weight.sum(-1), rtol=1e-3, atol=1e28)
    assert np.allclose(y[2], -1e-30 * matrix.weight[:, 5], rtol=1e-3)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("columns", [[5], range(96)])
@pytest.mark.parametrize(("bits", "block"), FORMS)
def test_a_row_that_is_no_number_stays_none_and_alone(
    bits: int, block: int, columns: Many[int], odd: float
) -> None:
    run = Matrix(48, 96, bits=bits, block=block).open().run
    x = rows_of(7, 96)
    wanted = run(None, {"x": x})[0]
    x[3, list(columns)] = odd
    y = run(None, {"x": x})[0]
    assert not np.isfinite(y[3]).any()
    assert (np.delete(y, 3, axis=0) == np.delete(wanted, 3, axis=0)).all()


def test_shapes_that_do_not_agree_are_refused() -> None:
    matrix = Matrix(32, 64, bits=8, block=64)
    with pytest.raises(Exception, match="x has not K columns"):
        matrix.open().run(None, {"x": rows_of(2, 63)})
    matrix.k = 128
    with pytest.raises(Exception, match="has not the size that N, K, bits and block_size say"):
        matrix.open()
    matrix.k, matrix.block = 64, 48
    with pytest.raises(Exception, match="has not the size"):
        matrix.open()
    matrix.block = 40
    with pytest.raises(Exception, match="block_size a multiple of 32, or 8 and one of 16"):
        matrix.open()
    matrix.bits, matrix.block = 4, 48
    with pytest.raises(Exception, match="bits must be 4 and block_size a multiple of 32"):
        matrix.open()


@pytest.mark.parametrize(("bits", "block"), [(4, 32), (5, 32), (8, 32)])
def test_offsets_that_are_least_values_in_halves_lose_nothing(bits: int, block: int) -> None:
    matrix = Matrix(21, 160, bits=bits, block=block, sides="offsets")
    middle, parts = np.float32(2 ** (bits - 1)), matrix.parts
    scales, least = (parts[name].astype(np.float16).astype(np.float32) for name in SIDES)
    least[3, 1], scales[4, 2] = 0, 0
    values = matrix.weight.reshape(21, 5, 32) - parts["offsets"][..., None]
    q = values / parts["scales"][..., None]
    parts["scales"], parts["offsets"] = scales, least + middle * scales
    weight = (q * scales[..., None] + parts["offsets"][..., None]).reshape(21, 160)
    x = rows_of(4, 160)
    y = matrix.open().run(None, {"x": x})[0]
    matrix.weight = weight
    assert (np.abs(y - x @ weight.T) <= matrix.tolerance(x)).all()
    parts["offsets"][5, 0] = np.nextafter(parts["offsets"][5, 0], np.float32(np.inf))
    floats = matrix.open().run(None, {"x": x})[0]  # no sum of halves any more
    np.testing.assert_allclose(floats, y, rtol=1e-5, atol=1e-3)


class Attention:
    """One attention node over rows of a cache, and the same in NumPy."""

    def __init__(
        self, *, heads: int, kv_heads: int, dim: int = 32, rotary: int = 32, capacity: int = 96
    ) -> None:
        self.heads, self.kv_heads, self.dim, self.rotary = heads, kv_heads, dim, rotary
        self.scale = dim**-0.5
        angles = np.arange(capacity)[:, None] * 0.7 ** np.arange(rotary // 2)
        self.cos, self.sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        node = helper.make_node(
            ATTENTION,
            ["qkv", "past_key", "past_value", "segments", "cos", "sin"],
            ["y", "present_key", "present_value"],
            domain=native.DOMAIN,
            num_heads=heads,
            kv_num_heads=kv_heads,
            scale=self.scale,
        )
        inputs = {"qkv": TensorProto.FLOAT}
        inputs |= {"past_key": TensorProto.INT8, "past_value": TensorProto.INT8}
        inputs["segments"] = TensorProto.INT32
        outputs = ["y", "present_key", "present_value"]
        self.session = session(node, inputs, outputs, cos=self.cos, sin=self.sin)

    def cache(self, rows: int = 1, capacity: int = 96) -> tuple[NDArray[Any], NDArray[Any]]:
        """Full of bytes that are NaN where they are taken for scales."""
        shape = (rows, self.kv_heads, capacity, self.dim + TOKEN_SCALE_BYTES)
        return np.full(shape, -1, np.int8), np.full(shape, -1, np.int8)

    def run(
        self, qkv: Floats, cache: Any, segments: list[tuple[int, int, int]], *, apart: bool = False
    ) -> Floats:
        """[T, heads dim] of qkv [T, packed]; a segment is a row, its past, and its new tokens."""
        binding = self.session.io_binding()
        binding.bind_cpu_input("qkv", np.ascontiguousarray(qkv[None]))
        binding.bind_cpu_input("segments", np.array(segments, np.int32).reshape(-1, 3))
        for name, array in zip(("key", "value"), cache, strict=True):
            place = ("cpu", 0, np.int8, array.shape, array.ctypes.data)
            binding.bind_input(f"past_{name}", *place)
            if apart:
                binding.bind_output(f"present_{name}", "cpu")
            else:
                binding.bind_output(f"present_{name}", *place)
        binding.bind_output("y", "cpu")
        self.session.run_with_iobinding(binding)
        return np.array(binding.get_outputs()[-1].numpy())[0]

    def alone(self, qkv: Floats) -> Floats:
        """All of a prompt at once, in a cache of its own."""
        return self.run(qkv, self.cache(), [(0, 0, len(qkv))])

    def turned(self, x: NDArray[Any], position: int) -> NDArray[Any]:
        half = self.rotary // 2
        a, b, rest = x[..., :half], x[..., half : self.rotary], x[..., self.rotary :]
        c, s = self.cos[position], self.sin[position]
        return np.concatenate([a * c - b * s, b * c + a * s, rest], -1)

    def reference(self, qkv: Floats) -> NDArray[np.float64]:
        """[S, heads dim] of one row from an empty cache, keys and values in eight bits."""
        q, k, v = np.split(
            qkv.reshape(len(qkv), -1, self.dim), [self.heads, self.heads + self.kv_heads], axis=1
        )
        q = np.stack([self.turned(row, i) for i, row in enumerate(q)]).astype(float)
        k = in_eight_bits(np.stack([self.turned(row, i) for i, row in enumerate(k)]))
        v = in_eight_bits(v)
        out = np.zeros((len(qkv), self.heads, self.dim))
        for h in range(self.heads):
            kv = h // (self.heads // self.kv_heads)
            for i in range(len(qkv)):
                scores = k[: i + 1, kv] @ q[i, h] * self.scale
                weights = np.exp(scores - scores.max())
                out[i, h] = weights @ v[: i + 1, kv] / weights.sum()
        return out.reshape(len(qkv), -1)

    def prompt(self, tokens: int, seed: int = 0) -> Floats:
        width = (self.heads + 2 * self.kv_heads) * self.dim
        return np.random.default_rng(seed).normal(size=(tokens, width)).astype(np.float32)


def in_eight_bits(x: NDArray[Any]) -> NDArray[np.float64]:
    """Rounded with one scale a vector, the least bfloat16 that is no less than a 127th of it."""
    exact = np.ascontiguousarray(np.abs(x).max(-1, keepdims=True) / np.float32(127), np.float32)
    bits = (exact.view(np.uint32) + np.uint32(0xFFFF)) & np.uint32(0xFFFF0000)
    scale = bits.view(np.float32).astype(float)
    return np.rint(np.divide(x, scale, out=np.zeros(x.shape), where=scale > 0)) * scale


@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "rotary"),
    [(3, 1, 32, 32), (9, 3, 64, 64), (4, 4, 32, 16), (8, 1, 48, 32), (14, 2, 16, 16)],
)
def test_attention_is_what_numpy_says(heads: int, kv_heads: int, dim: int, rotary: int) -> None:
    node = Attention(heads=heads, kv_heads=kv_heads, dim=dim, rotary=rotary)
    qkv = node.prompt(70)
    # A number halfway between two of the eight bits' may go either way.
    assert np.allclose(node.alone(qkv), node.reference(qkv), atol=2e-3)
    assert np.abs(node.alone(qkv) - node.reference(qkv)).mean() < 2e-5


def test_keys_and_values_of_any_size_keep_eight_bits() -> None:
    node = Attention(heads=2, kv_heads=1)
    qkv = node.prompt(20)
    wanted = node.reference(qkv)
    qkv[:, -node.dim :] *= 2.0**-60
    assert np.allclose(node.alone(qkv) * 2.0**60, wanted, atol=2e-3)
    qkv[:, node.heads * node.dim :] = 0
    assert (node.alone(qkv) == 0).all()


def test_the_way_a_prompt_is_cut_changes_no_bit() -> None:
    node = Attention(heads=6, kv_heads=2)
    qkv = node.prompt(80)
    whole = node.alone(qkv)
    for size in (1, 7, 16, 33):
        cache = node.cache()
        cuts = [(at, min(80, at + size)) for at in range(0, 80, size)]
        parts = [node.run(qkv[a:b], cache, [(0, a, b - a)]) for a, b in cuts]
        assert (np.concatenate(parts) == whole).all()


def test_tokens_of_other_sequences_in_the_same_run_change_no_bit() -> None:
    node = Attention(heads=6, kv_heads=2)
    prompts = [node.prompt(length, seed=length) for length in (1, 15, 16, 17, 50)]
    pasts = [0, 3, 16, 16, 49]  # from a whole prompt, through pieces, to a single token
    rows = [4, 0, 5, 2, 1]
    cache = node.cache(6)
    for row, past, qkv in zip(rows, pasts, prompts, strict=True):
        if past:
            node.run(qkv[:past], cache, [(row, 0, past)])
    fresh = [qkv[past:] for past, qkv in zip(pasts, prompts, strict=True)]
    segments = [(r, p, len(f)) for r, p, f in zip(rows, pasts, fresh, strict=True) if len(f)]
    together = node.run(np.concatenate(fresh), cache, segments)
    alone = [node.alone(q)[past:] for past, q in zip(pasts, prompts, strict=True)]
    assert (together == np.concatenate(alone)).all()


def test_a_token_that_is_no_number_spoils_what_follows_in_its_row_alone() -> None:
    node = Attention(heads=6, kv_heads=2)
    good, bad, cache = node.prompt(20), node.prompt(20, seed=1), node.cache(2)
    wanted, before = node.alone(good), node.alone(bad)
    bad[12] = np.nan
    y = node.run(np.concatenate([good, bad]), cache, [(0, 0, 20), (1, 0, 20)])
    assert (y[:20] == wanted).all()
    assert (y[20:32] == before[:12]).all()
    assert np.isnan(y[32:]).all()
    assert np.isnan(node.run(bad[:1], cache, [(1, 20, 1)])).all()


def test_what_an_earlier_sequence_left_is_not_read() -> None:
    node = Attention(heads=2, kv_heads=1)
    assert np.isfinite(node.alone(node.prompt(20))).all()


@pytest.mark.parametrize(
    ("segment", "reason"),
    [
        ((0, 93, 4), "longer than the cache or the rotary table"),
        ((0, -1, 4), "longer than the cache or the rotary table"),
        ((0, 0, 0), "longer than the cache or the rotary table"),
        ((1, 0, 4), "of no row of the cache"),
        ((-1, 0, 4), "of no row of the cache"),
        ((0, 0, 3), "not all of the tokens"),
        ((0, 0, 5), "not all of the tokens"),
    ],
)
def test_a_segment_that_cannot_be_is_refused(segment: tuple[int, int, int], reason: str) -> None:
    node = Attention(heads=2, kv_heads=1)
    with pytest.raises(Exception, match=reason):
        node.run(node.prompt(4), node.cache(), [segment])


def test_a_cache_that_cannot_be_extended_in_place_is_refused() -> None:
    node = Attention(heads=2, kv_heads=1)
    with pytest.raises(Exception, match="past and present must be bound to the same memory"):
        node.run(node.prompt(4), node.cache(), [(0, 0, 4)], apart=True)
    with pytest.raises(Exception, match="must be multiples of 16"):
        node.run(node.prompt(4), node.cache(capacity=90), [(0, 0, 4)])


def test_a_rehearsal_computes_nothing_and_leaves_the_cache_as_it_is() -> None:
    matrix, attention = Matrix(40, 64, bits=4, block=32).open(), Attention(heads=2, kv_heads=1)
    x, qkv = rows_of(7, 64), attention.prompt(5)
    product, attended, cache = (
        matrix.run(None, {"x": x})[0],
        attention.alone(qkv),
        attention.cache(),
    )
    with native.rehearsing():
        assert (matrix.run(None, {"x": x})[0] == np.zeros((7, 40))).all()
        assert (attention.run(qkv, cache, [(0, 0, 5)]) == 0).all()
        with ThreadPoolExecutor(max_workers=1) as other:  # another model's engine
            assert (other.submit(matrix.run, None, {"x": x}).result()[0] == product).all()
    assert all((part == -1).all() for part in cache)
    assert (matrix.run(None, {"x": x})[0] == product).all()
    assert (attention.run(qkv, cache, [(0, 0, 5)]) == attended).all()


def test_a_variant_whose_operators_are_not_there_says_why() -> None:
    assert native.missing(()) is None
    assert native.missing((native.REQUIREMENT,)) is None
    assert "nsedge-ops-99, and this release does not know them" in str(
        native.missing(("nsedge-ops-99",))
    )
