"""The tables of an MP4 or MOV, looked at before FFmpeg is: a few bytes of one can say that there
are a billion frames, and have it fill memory with what it knows of each.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nsedge.errors import InvalidMedia

MAX_SAMPLES = 1 << 22
"""Of one track: 19 hours at 60 frames a second, or 24 hours of AAC."""
MAX_BOXES = 1 << 20
"""Of one file that are looked at."""
MAX_DEPTH = 8
_WITHIN = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
"""Boxes that hold others."""
_RUNS = {b"stts": 8, b"ctts": 8}
"""Tables of runs of samples: bytes of an entry, which begins with how many are in it."""
_PLACES = {b"stco", b"co64"}
"""Tables of where chunks are, an entry each."""


@dataclass(slots=True)
class _Track:
    """What the tables of one track say: samples by table, chunks, and runs of chunks: the first of
    each, from 1 on, and the samples in each chunk of it, int64 [N, 2].

    Of sound without compression, each of whose samples lasts one tick, FFmpeg knows chunks alone.
    """

    samples: dict[bytes, int] = field(default_factory=dict)
    chunks: int = 0
    runs: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    is_sound: bool = False
    one_tick: bool = False

    def counts(self, size: int) -> Iterator[int]:
        """How many things of each kind FFmpeg would know, of a file of `size` bytes."""
        yield self.chunks
        ends = np.append(self.runs[1:, 0], self.chunks + 1)[: len(self.runs)]
        in_runs = np.maximum(0, ends - self.runs[:, 0]).astype(np.float64) * self.runs[:, 1]
        in_chunks = int(in_runs.sum())
        if not (self.is_sound and self.one_tick):
            yield from self.samples.values()
        elif in_chunks <= size:
            return
        yield in_chunks


def check_tables(data: bytes) -> None:
    """Refuse a file whose tables tell of more samples than a film has.

    Raises:
        InvalidMedia: saying of how many.
    """
    track = _Track()
    for number, (kind, begin, end) in enumerate(_boxes(data, 0, len(data), 0)):
        if number == MAX_BOXES:
            raise InvalidMedia(f"the file has more than {MAX_BOXES} boxes")
        if kind == b"trak":
            _check(track, len(data))
            track = _Track()
        elif end - begin >= 8:
            _note(track, data, kind, begin, end)
    _check(track, len(data))


def _check(track: _Track, size: int) -> None:
    if (most := max(track.counts(size))) > MAX_SAMPLES:
        raise InvalidMedia(f"its header tells of {most} frames, more than the {MAX_SAMPLES} read")


def _boxes(data: bytes, at: int, end: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of what is in each box; FFmpeg tells what is wrong with one."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        begin = at + 8
        if size == 1 and at + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, begin)
            begin = at + 16
        stop = end if size == 0 else min(end, at + size)
        if stop < begin:
            return
        yield kind, begin, stop
        if kind in _WITHIN and depth < MAX_DEPTH:
            yield from _boxes(data, begin, stop, depth + 1)
        at = stop


def _note(track: _Track, data: bytes, kind: bytes, begin: int, end: int) -> None:
    """Take down what a table of a track says."""
    (first,) = struct.unpack_from(">I", data, begin + 4)
    if kind == b"stsz" and end - begin >= 12:
        (track.samples[kind],) = struct.unpack_from(">I", data, begin + 8)
    elif kind == b"trun":
        track.samples[kind] = track.samples.get(kind, 0) + first
    elif kind in _RUNS:
        entries = _entries(data, begin, end, width=_RUNS[kind])
        track.samples[kind] = int(entries[:, 0].sum())
        if kind == b"stts":
            track.one_tick = entries[:, 1].tolist()[:2] == [1]
    elif kind == b"stsc":
        track.runs = _entries(data, begin, end, width=12)
    elif kind in _PLACES:
        track.chunks = first
    elif kind == b"hdlr" and (handler := data[begin + 8 : begin + 12]) in (b"soun", b"vide"):
        track.is_sound = handler == b"soun"


def _entries(data: bytes, begin: int, end: int, *, width: int) -> NDArray[np.int64]:
    """The first two numbers of each entry of a table that are there: [N, 2]."""
    (count,) = struct.unpack_from(">I", data, begin + 4)
    there = min(count, max(0, end - begin - 8) // width)
    numbers = np.frombuffer(data, ">u4", there * width // 4, begin + 8)
    return numbers.reshape(there, width // 4)[:, :2].astype(np.int64)
