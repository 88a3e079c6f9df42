"""Run a decoder graph over a few rows: enough to check one, too plain to serve with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from exporters.errors import ExportError
from exporters.graph.records import GRAPH_FILE, NATIVE_FILE, ReferenceRecord
from nsedge import native
from nsedge.bundle.causal_lm import GraphIo, KvLayout, MediaIo, PromptIo

Media = tuple[NDArray[np.float32], NDArray[np.int64]]
TEXT_ROOM = 2048
"""Tokens that the longest text may have."""
CHUNK = 128
ERRORS_ONLY = 3


class Runner:
    """`rows` caches of `capacity` tokens, filled in place; `lengths` [rows] tells how far.

    Raises:
        ExportError: the graph does not load.
    """

    def __init__(
        self,
        graph: Path,
        *,
        io: GraphIo,
        kv: KvLayout,
        capacity: int,
        rows: int = 1,
        requires: tuple[str, ...] = (),
    ) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        try:
            native.register(options, requires)
            self._session = ort.InferenceSession(
                str(graph), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the library's errors share no narrower base
            raise ExportError(f"{graph} does not load: {error}") from error
        self._io = io
        whole = -(-capacity // kv.block_tokens) * kv.block_tokens
        self._cache = _caches(io, kv, (rows, kv.heads, whole, kv.width), kv.dtype)
        # An int8 cache is read throughout, never the prompt's: what is shown is the farthest from
        # fp32 that the graph can be.
        unread = {} if io.prompt is None else _caches(io.prompt, kv, (1, kv.heads, 1, kv.head_dim))
        self._unread = unread
        self._no_rows = {} if io.media is None else no_rows(self._session, io.media)
        self.capacity = capacity
        self.lengths = np.zeros(rows, np.int64)

    def forward(
        self,
        ids: NDArray[np.int64],
        *,
        row: int = 0,
        keep: NDArray[np.int64] | None = None,
        media: Media | None = None,
        positions: NDArray[np.int64] | None = None,
        block: tuple[int, int] | None = None,
    ) -> NDArray[np.float32]:
        """Append ids [B, Q] to rows `row`..`row + B`; logits [B, K, V] of the kept positions.
        media: rows [M, H] in the place of ids, and where: [M, 2]. positions [axes, B, Q]: where
        the ids do not follow each other as a text's do. block: the first and last place of tokens
        that see each other, of the only row."""
        rows, queries = ids.shape
        kept = np.arange(queries) if keep is None else keep
        feeds = self._segments(ids, row, kept) if self._io.segments else self._rows(ids, row, kept)
        if self._io.position_ids is not None:
            feeds[self._io.position_ids] = self._positions(row, rows, queries, positions)
        feeds |= self._no_rows
        if self._io.media is not None and media is not None:
            feeds |= dict(
                zip((self._io.media.embeds, self._io.media.positions), media, strict=True)
            )
        if block is not None and self._io.media is not None and self._io.media.blocks is not None:
            feeds[self._io.media.blocks] = np.array([block], np.int64)
        binding = self._session.io_binding()
        for name, value in feeds.items():
            binding.bind_cpu_input(name, value)
        bound = slice(None) if self._io.segments else slice(row, row + rows)
        parts = {names: buffer[bound] for names, buffer in self._cache.items()}
        for (past_name, present_name), part in (parts | self._unread).items():
            place = ("cpu", 0, part.dtype.type, part.shape, part.ctypes.data)
            binding.bind_input(past_name, *place)
            binding.bind_output(present_name, *place)
        binding.bind_output(self._io.logits, "cpu")
        self._session.run_with_iobinding(binding)
        self.lengths[row : row + rows] += queries
        logits = binding.get_outputs()[-1].numpy()
        return logits.reshape(rows, len(kept), -1)

    def _rows(
        self, ids: NDArray[np.int64], row: int, kept: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """The inputs of a graph whose runs are of rows of equally many tokens."""
        rows, queries = ids.shape
        past = self.lengths[row : row + rows]
        after = past + queries
        feeds: dict[str, NDArray[Any]] = {
            self._io.input_ids: np.ascontiguousarray(ids, np.int64),
            self._io.seqlens_k: (after - 1).astype(np.int32),
            self._io.total_sequence_length: np.array(after.max(), np.int32),
            self._io.kept_positions: kept,
        }
        if self._io.prompt is not None:
            feeds[self._io.prompt.flag] = np.array(False)
        return feeds

    def _segments(
        self, ids: NDArray[np.int64], row: int, kept: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """The inputs of a graph whose runs are of segments: here one for each row."""
        rows, queries = ids.shape
        past = self.lengths[row : row + rows]
        segments = np.stack([np.arange(row, row + rows), past, np.full(rows, queries)], axis=1)
        feeds: dict[str, NDArray[Any]] = {
            self._io.input_ids: np.ascontiguousarray(ids, np.int64).reshape(1, -1),
            str(self._io.segments): segments.astype(np.int32),
            self._io.kept_positions: (np.arange(rows)[:, None] * queries + kept).reshape(-1),
        }
        return feeds

    def _positions(
        self, row: int, rows: int, queries: int, stated: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        """Of so many new tokens of each of the rows, in the shape that the graph reads."""
        counted = self.lengths[row : row + rows, None] + np.arange(queries)
        if self._io.position_axes > 1:
            shape = (self._io.position_axes, rows, queries)
            counted = np.broadcast_to(counted, shape) if stated is None else stated
        leading = counted.shape[:-2]
        return np.ascontiguousarray(
            counted.reshape(*leading, 1, -1) if self._io.segments else counted
        )

    def cached(self, tokens: int, row: int = 0) -> NDArray[Any]:
        """A copy of what the first `tokens` of a row left: [layers, 2, heads, tokens, head_dim]."""
        parts = np.stack([buffer[row, :, :tokens] for buffer in self._cache.values()])
        return parts.reshape(-1, 2, *parts.shape[1:])

    def log_probs(
        self,
        ids: list[int],
        start: int = 0,
        *,
        media: NDArray[np.float32] | None = None,
        positions: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Log-probabilities [len(ids) - start, V] after each token from `start`, anew from 0.
        media: rows [M, H] in the place of the first M tokens; positions [axes, len(ids)]."""
        self.lengths[:] = 0
        parts, begin, block = [], 0, None
        together = self._io.media is not None and self._io.media.blocks is not None
        while begin < len(ids):
            end = begin + CHUNK
            if media is not None and together and not begin:  # all of them see each other
                end, block = max(end, len(media)), (0, len(media) - 1)
            chunk = np.array([ids[begin:end]], np.int64)
            keep = np.arange(max(start - begin, 0), chunk.shape[1])
            placed = None if media is None else _first_of(media[begin:end])
            wanted = keep if len(keep) else np.array([0])
            where = None if positions is None else positions[:, None, begin:end]
            logits = self.forward(chunk, keep=wanted, media=placed, positions=where, block=block)
            parts.append(log_softmax(logits[0][: len(keep)]))
            begin, block = end, None
        return np.concatenate(parts)

    def next_log_probs(self, token: int) -> NDArray[np.float32]:
        """Append one token to row 0; log-probabilities [V] after it."""
        return log_softmax(self.forward(np.array([[token]], np.int64))[0, -1])


def runner_of(
    folder: Path, record: ReferenceRecord | None = None, *, native_form: bool = False
) -> Runner:
    """Open the graph in a stage's directory, or its native form, with room for the texts.

    Raises:
        ExportError: the graph does not load.
    """
    record = record or ReferenceRecord.read(folder)
    return Runner(
        folder / (NATIVE_FILE if native_form else GRAPH_FILE),
        io=record.io,
        kv=record.kv,
        capacity=min(record.context_length, TEXT_ROOM),
        requires=(native.REQUIREMENT,) if native_form else (),
    )


def _first_of(rows: NDArray[np.float32]) -> Media:
    """Rows in the place of a run's first tokens."""
    places = np.stack([np.zeros(len(rows)), np.arange(len(rows))], axis=1)
    return np.ascontiguousarray(rows), places.astype(np.int64)


def no_rows(session: Any, io: MediaIo) -> dict[str, NDArray[Any]]:
    """The media inputs of a decoder where no token is a row of media's."""
    hidden = next(one.shape[1] for one in session.get_inputs() if one.name == io.embeds)
    nothing = np.empty((0, 2), np.int64)
    blocks = {} if io.blocks is None else {io.blocks: nothing}
    return {io.embeds: np.empty((0, hidden), np.float32), io.positions: nothing, **blocks}


def _caches(
    io: GraphIo | PromptIo, kv: KvLayout, shape: tuple[int, ...], dtype: str = "float32"
) -> dict[tuple[str, str], NDArray[Any]]:
    """Empty caches by the names of their past and present, keys and values layer by layer."""
    return {
        (past.format(layer=layer), present.format(layer=layer)): np.zeros(shape, dtype)
        for layer in range(kv.layers)
        for past, present in ((io.past_key, io.present_key), (io.past_value, io.present_value))
    }


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
