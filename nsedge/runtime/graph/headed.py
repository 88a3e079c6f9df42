"""A headed encoder's graph in a session: readings in, the logits of each out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.headed import AnyHead, HeadVariant, MaskedLm, SequenceClassification
from nsedge.runtime.graph.encoder import padded
from nsedge.runtime.graph.session import open_session
from nsedge.runtime.text.segments import MAX_MASKS, Reading

Floats = NDArray[np.float32]


class HeadSession:
    """Runs batches of one variant."""

    def __init__(
        self,
        graph: Path,
        variant: HeadVariant,
        *,
        threads: int,
        pad_id: int,
        head: AnyHead,
        vocab_size: int,
    ) -> None:
        """Open `graph`; raises what `open_session` does."""
        self.device = variant.device
        self._io = variant.io
        self._pad_id = pad_id
        self._head = head
        self._labels = vocab_size if isinstance(head, MaskedLm) else len(head.labels)
        self._session = open_session(
            graph, variant.device, threads, requires=variant.requires, patterns=False
        )

    @property
    def provider(self) -> str:
        """The execution provider in use."""
        return str(self._session.get_providers()[0])

    def run(self, rows: Sequence[Reading]) -> list[Floats]:
        """The logits of each reading, none of them empty: of a masked LM [places, vocabulary], of a
        head for whole texts [labels], of one for tokens [tokens, labels].

        Raises:
            ValueError: the graph gives something of another shape.
        """
        if not isinstance(self._head, MaskedLm):
            return self._run(rows)
        return [found for part in _parts(rows) for found in self._run(part)]

    def _run(self, rows: Sequence[Reading]) -> list[Floats]:
        ids, mask = padded([row.ids for row in rows], self._pad_id)
        feeds = {self._io.input_ids: ids, self._io.attention_mask: mask}
        if self._io.token_type_ids is not None:
            feeds[self._io.token_type_ids] = _kinds(rows, mask)
        if self._io.places is not None:
            width = ids.shape[1]
            places = [width * at + place for at, row in enumerate(rows) for place in row.places]
            feeds[self._io.places] = np.array(places, np.int64)
        (logits,) = self._session.run([self._io.logits], feeds)
        found = self._split(np.asarray(logits, np.float32), rows)
        for one, row in zip(found, rows, strict=True):
            if one.shape != self._shape(row):
                raise ValueError(f"logits of shape {one.shape} came of {len(row)} tokens")
        return found

    def _split(self, logits: Floats, rows: Sequence[Reading]) -> list[Floats]:
        if isinstance(self._head, MaskedLm):
            ends = np.cumsum([len(row.places) for row in rows])
            return np.split(logits, ends[:-1])
        if isinstance(self._head, SequenceClassification):
            return list(logits)
        return [one[: len(row)] for one, row in zip(logits, rows, strict=True)]

    def _shape(self, row: Reading) -> tuple[int, ...]:
        if isinstance(self._head, MaskedLm):
            return len(row.places), self._labels
        if isinstance(self._head, SequenceClassification):
            return (self._labels,)
        return len(row), self._labels


def _parts(rows: Sequence[Reading]) -> Iterator[list[Reading]]:
    """Rows that have no more masks together than one may have: each costs a whole vocabulary."""
    part: list[Reading] = []
    masks = 0
    for row in rows:
        if part and masks + len(row.places) > MAX_MASKS:
            yield part
            part, masks = [], 0
        part.append(row)
        masks += len(row.places)
    yield part


def _kinds(rows: Sequence[Reading], mask: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 for tokens of a second text, 0 for all others."""
    starts = np.array([mask.shape[1] if row.second is None else row.second for row in rows])
    return (np.arange(mask.shape[1]) >= starts[:, None]).astype(np.int64) * mask
