"""Keys with channels far above the rest bear an 8-bit cache once they are evened out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporters.gguf.file import GgufFile
from exporters.gguf.graph import make_reference
from exporters.graph.balance import factors, spread
from exporters.graph.native import why_no_form, write_native
from exporters.graph.records import GRAPH_FILE, NATIVE_FILE, ReferenceRecord, native_record
from exporters.measure.kv_ranges import cached_ranges
from exporters.measure.runner import runner_of
from nsedge import native
from tests.unit.exporters.gguf.small import tensors, write_small

HEADS, KV_HEADS, SIZE = 4, 2, 8
RANGES = np.array([[1, 2, 400, 3, 2, 1, 2, 1], [1, 1, 1, 1, 1, 1, 1, 1]], np.float32)
IDS = list(range(5, 69))


def test_no_score_changes_by_as_much_as_a_bit() -> None:
    random = np.random.default_rng(2)
    packed = factors(RANGES, heads=HEADS, rotary=SIZE).reshape(-1, SIZE)
    query, key, value = np.split(packed, [HEADS, HEADS + KV_HEADS])
    q = random.standard_normal((HEADS, SIZE)).astype(np.float32)
    k = random.standard_normal((KV_HEADS, SIZE)).astype(np.float32) * RANGES
    for head in range(HEADS):
        kv_head = head // (HEADS // KV_HEADS)
        np.testing.assert_array_equal(
            (q[head] * query[head]) * (k[kv_head] * key[kv_head]), q[head] * k[kv_head]
        )
    assert (value == 1).all()
    assert (np.log2(packed) % 1 == 0).all()


def test_channels_that_turn_together_have_one_factor() -> None:
    packed = factors(RANGES, heads=HEADS, rotary=SIZE).reshape(-1, SIZE)
    np.testing.assert_array_equal(packed[:, : SIZE // 2], packed[:, SIZE // 2 :])
    part = factors(RANGES, heads=HEADS, rotary=4).reshape(-1, SIZE)
    np.testing.assert_array_equal(part[:, :2], part[:, 2:4])
    assert part[HEADS, 4] != part[HEADS, 0]


def test_what_is_evened_out_differs_by_little() -> None:
    key = factors(RANGES, heads=HEADS, rotary=SIZE).reshape(-1, SIZE)[HEADS : HEADS + KV_HEADS]
    evened = key * np.maximum(RANGES, np.roll(RANGES, SIZE // 2, axis=1))
    assert spread(RANGES) == 200
    assert 1 <= spread(evened) <= 2


def test_a_channel_that_is_always_zero_is_no_fault() -> None:
    assert np.isfinite(factors(np.zeros((1, 8), np.float32), heads=2, rotary=8)).all()
    assert np.isfinite(spread(np.zeros((1, 8), np.float32)))


@pytest.mark.skipif(native.why_not() is not None, reason="no native operators here")
def test_a_cache_of_uneven_keys_is_as_near_as_one_of_even_keys(tmp_path: Path) -> None:
    write_small(tmp_path / "small.gguf", tensors(outlier=60.0))
    make_reference(GgufFile(tmp_path / "small.gguf"), tmp_path, max_context=128)
    exact = runner_of(tmp_path)
    ranges = cached_ranges(exact, [IDS], tokens=32)[:, 0]
    assert why_no_form(tmp_path / GRAPH_FILE) is None
    record, wanted = native_record(ReferenceRecord.read(tmp_path)), exact.log_probs(IDS)
    errors = {}
    for name, uneven in (("plain", {}), ("evened", dict(enumerate(ranges)))):
        assert write_native(tmp_path / GRAPH_FILE, tmp_path / NATIVE_FILE, uneven=uneven) is None
        got = runner_of(tmp_path, record, native_form=True).log_probs(IDS)
        errors[name] = float(np.abs(got - wanted).mean())
    assert errors["evened"] < errors["plain"] / 3


def test_ranges_are_taken_of_the_first_tokens_alone(tmp_path: Path) -> None:
    write_small(tmp_path / "small.gguf", tensors())
    make_reference(GgufFile(tmp_path / "small.gguf"), tmp_path, max_context=128)
    runner = runner_of(tmp_path)
    whole = cached_ranges(runner, [IDS[:20], IDS[20:]])
    part = cached_ranges(runner, [IDS[:20], IDS[20:]], tokens=24)
    assert whole.shape == (2, 2, 2, 32)
    assert (part <= whole).all()
    assert (part < whole).any()
    np.testing.assert_array_equal(part, cached_ranges(runner, [IDS[:20], IDS[20:24]]))
    with pytest.raises(ValueError, match="no passages"):
        cached_ranges(runner, [IDS], tokens=0)
