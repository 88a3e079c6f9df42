"""A tensor's own blocks are the numbers that the format's own library makes of it."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize
from numpy.typing import NDArray

from exporters.gguf.blocks import BLOCKED, read_blocks
from exporters.gguf.file import GgufFile
from exporters.model.own_blocks import OwnBlocks

ROWS, WIDTH = 6, 512
HALVES = {
    **dict.fromkeys((Kind.Q4_0, Kind.Q5_0, Kind.Q8_0), (0,)),
    **dict.fromkeys((Kind.Q4_1, Kind.Q5_1, Kind.Q4_K, Kind.Q5_K), (0, 2)),
    Kind.Q6_K: (208,),
}
"""Where a block has its half-precision numbers."""
FORMS = {
    Kind.Q4_0: (4, 32, False),
    Kind.Q4_1: (4, 32, True),
    Kind.Q5_0: (5, 32, False),
    Kind.Q5_1: (5, 32, True),
    Kind.Q8_0: (8, 32, False),
    Kind.Q4_K: (4, 32, True),
    Kind.Q5_K: (5, 32, True),
    Kind.Q6_K: (6, 16, False),
}
"""Bits, weights that share a scale, and whether they share an offset."""


def write_tensor(
    path: Path, kind: Kind, *, largest: float = 0.01
) -> tuple[GgufFile, NDArray[np.float32]]:
    """Random blocks [ROWS, WIDTH] as the tensor "t" of a file, and their numbers."""
    random = np.random.default_rng(int(kind))
    block, size = GGML_QUANT_SIZES[kind]
    raw = random.integers(0, 256, (ROWS * WIDTH // block, size), np.uint8)
    for at in HALVES[kind]:
        numbers = random.uniform(-largest, largest, len(raw)).astype(np.float16)
        raw[:, at : at + 2] = numbers[:, None].view(np.uint8)
    raw = raw.reshape(ROWS, -1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("t", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GgufFile(path), dequantize(raw, kind).astype(np.float32)


def restored(blocks: OwnBlocks) -> NDArray[np.float64]:
    """The matrix that the blocks stand for."""
    values = (blocks.q.astype(float) - blocks.middle) * blocks.scales[..., None]
    if blocks.offsets is not None:
        values += blocks.offsets[..., None]
    return values.reshape(ROWS, WIDTH)


def test_every_type_in_blocks_is_tried() -> None:
    assert set(FORMS) == BLOCKED


@pytest.mark.parametrize("kind", FORMS, ids=lambda kind: kind.name)
def test_blocks_are_the_files(tmp_path: Path, kind: Kind) -> None:
    file, wanted = write_tensor(tmp_path / "t.gguf", kind)
    found = read_blocks(file, "t")
    assert found is not None
    assert (found.bits, found.block, found.offsets is not None) == FORMS[kind]
    assert found.q.shape == (ROWS, WIDTH // found.block, found.block)
    assert found.q.max() == 2**found.bits - 1
    halves = [found.scales]
    if found.offsets is not None:
        halves.append(found.offsets - np.float32(found.middle) * found.scales)
    spread = np.abs(found.scales).max() * 2**found.bits
    for sides in halves:
        np.testing.assert_allclose(sides, sides.astype(np.float16), rtol=0, atol=1e-6 * spread)
    error = np.abs(restored(found) - wanted)
    if kind.name.endswith("K"):
        assert error.max() <= 2**-11 * spread
        assert np.sqrt((error**2).mean() / (wanted**2).mean()) < 3e-4
    else:
        assert error.max() <= 1e-6 * spread


@pytest.mark.parametrize("kind", [Kind.Q4_K, Kind.Q6_K], ids=lambda kind: kind.name)
def test_scales_beyond_halves_are_kept_whole(tmp_path: Path, kind: Kind) -> None:
    file, wanted = write_tensor(tmp_path / "t.gguf", kind, largest=60000.0)
    found = read_blocks(file, "t")
    assert found is not None
    np.testing.assert_allclose(restored(found), wanted, rtol=1e-5, atol=1.0)


def test_plain_numbers_have_no_blocks(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "t.gguf", "llama")
    writer.add_tensor("t", np.ones((2, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_blocks(GgufFile(tmp_path / "t.gguf"), "t") is None
