"""WindowAttention against plain NumPy, through ONNX Runtime, and where a run may pause."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from exporters.conditioned.native import WINDOW_ATTENTION
from nsedge import native
from tests.unit.native_nodes import Floats, session

pytestmark = pytest.mark.skipif(native.why_not() is not None, reason=str(native.why_not()))

WAYS = ("best", "plain")
LIMITS = {"best": 0.02, "plain": 1e-5}
"""Of the error, as a share of the greatest value: bfloat16 has 8 bits."""


def way(name: str) -> AbstractContextManager[None]:
    return native.plainly() if name == "plain" else nullcontext()


def opened(heads: int, dim: int) -> Any:
    node = helper.make_node(
        WINDOW_ATTENTION, ["qkv"], ["y"], domain=native.DOMAIN, num_heads=heads, scale=dim**-0.5
    )
    return session(node, {"qkv": TensorProto.FLOAT}, ["y"])


def random(shape: tuple[int, ...], *, sharp: float = 3.0) -> Floats:
    """Of queries that tell keys apart."""
    made = np.random.default_rng(shape[1]).normal(size=shape).astype(np.float32)
    made[..., : shape[-1] // 3] *= sharp
    return made


def exact(qkv: Floats, heads: int) -> Floats:
    rows, length, width = qkv.shape
    parts = np.split(qkv.astype(np.float64), 3, axis=-1)
    q, k, v = (part.reshape(rows, length, heads, -1).transpose(0, 2, 1, 3) for part in parts)
    scores = q @ k.transpose(0, 1, 3, 2) * (width / 3 / heads) ** -0.5
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = weights / weights.sum(-1, keepdims=True) @ v
    return np.asarray(mixed.transpose(0, 2, 1, 3).reshape(rows, length, -1), np.float32)


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize(
    ("heads", "dim", "rows", "length"),
    [
        *((1, 64, 1, 1), (3, 32, 1, 83), (2, 64, 2, 31)),
        *((2, 96, 1, 64), (1, 256, 3, 50), (2, 64, 1, 700)),
    ],
)
def test_every_position_attends_to_all(
    name: str, heads: int, dim: int, rows: int, length: int
) -> None:
    qkv = random((rows, length, 3 * heads * dim))
    with way(name):
        found = opened(heads, dim).run(None, {"qkv": qkv})[0]
    wanted = exact(qkv, heads)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < LIMITS[name] * np.abs(wanted).max()


@pytest.mark.parametrize("name", WAYS)
def test_scores_far_apart_leave_the_greatest(name: str) -> None:
    qkv = random((1, 90, 3 * 64), sharp=1000.0)
    with way(name):
        found = opened(1, 64).run(None, {"qkv": qkv})[0]
    # Of two scores that are nearly the same, bfloat16 may take either for the greater.
    off = np.abs(found - exact(qkv, 1)).max(-1)
    assert np.isfinite(found).all()
    assert np.median(off) < 0.02


@pytest.mark.parametrize("name", WAYS)
def test_a_position_that_is_no_number_spoils_all_and_no_other_window(name: str) -> None:
    qkv = random((2, 40, 3 * 64))
    qkv[0, 7] = np.nan
    with way(name):
        found = opened(1, 64).run(None, {"qkv": qkv})[0]
        alone = opened(1, 64).run(None, {"qkv": qkv[1:]})[0]
    assert np.isnan(found[0]).all()
    assert (found[1:] == alone).all()


def test_an_empty_window_gives_nothing() -> None:
    found = opened(2, 32).run(None, {"qkv": np.zeros((1, 0, 192), np.float32)})[0]
    assert found.shape == (1, 0, 64)


@pytest.mark.parametrize("width", [3 * 2 * 16, 3 * 2 * 288, 3 * 64 + 1])
def test_heads_of_another_width_are_refused(width: int) -> None:
    with pytest.raises(Exception, match="a multiple of 32 wide, and no wider than 256"):
        opened(2, 32).run(None, {"qkv": np.zeros((1, 4, width), np.float32)})


def test_a_run_may_pause_between_heads_and_is_the_same_to_the_bit() -> None:
    model, qkv = opened(3, 32), random((2, 83, 3 * 3 * 32))
    whole = model.run(None, {"qkv": qkv})[0]
    paused = []
    with native.pausing(lambda: paused.append(True)):
        cut = model.run(None, {"qkv": qkv})[0]
    model.run(None, {"qkv": qkv})
    assert (cut == whole).all()
    assert len(paused) == 2 * 3


def test_another_run_may_come_in_between() -> None:
    """Of another session, on another thread."""
    model, other = opened(3, 32), opened(2, 64)
    qkv, more = random((1, 83, 3 * 3 * 32)), random((1, 31, 3 * 2 * 64))
    whole, beside = model.run(None, {"qkv": qkv})[0], other.run(None, {"qkv": more})[0]
    found = []

    def meanwhile() -> None:
        thread = threading.Thread(target=lambda: found.append(other.run(None, {"qkv": more})[0]))
        thread.start()
        thread.join()

    with native.pausing(meanwhile):
        assert (model.run(None, {"qkv": qkv})[0] == whole).all()
    assert len(found) == 3
    assert all((one == beside).all() for one in found)
