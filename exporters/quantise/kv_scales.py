"""Scales of an int8 key and value cache, from what the fp32 graph caches over a text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporters.graph.kv_int8 import SCALES_FILE
from exporters.measure.kv_ranges import cached_ranges
from exporters.measure.runner import Runner, runner_of
from exporters.model.source import Source
from exporters.model.texts import calibration_passages

LEVELS = 127
MARGIN = 1.15
"""Room above the greatest magnitude seen: another text has greater ones. On the starter model the
cache alone costs KL 0.0010 with it, 0.0011 without, 0.0022 with the 99.9th percentile."""
SMALLEST = 1e-6


def write_scales(source: Source, reference: Path, out: Path) -> None:
    """Write the scales of a cache of the fp32 graph in `reference` to `SCALES_FILE` in `out`."""
    passages = calibration_passages(source.text_reader())
    np.save(out / SCALES_FILE, calibrate(runner_of(reference), passages))


def calibrate(reference: Runner, passages: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Scales [layers, 2, heads, head_dim] that let int8 hold what `reference` caches."""
    greatest = cached_ranges(reference, passages)
    scales: NDArray[np.float32] = np.maximum(greatest * MARGIN, SMALLEST) / np.float32(LEVELS)
    return scales.astype(np.float32)
