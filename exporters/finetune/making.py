"""The pass over the rows: each is read, judged and written, or dropped with the reason."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec

from exporters.errors import ExportError
from exporters.finetune.examples import (
    Example,
    Turn,
    beginning,
    report_path,
    validation_path,
    write_examples,
)
from exporters.finetune.pictures import PictureShelf, conversation_of
from exporters.finetune.report import Cause, DatasetReport, Dropped, InputFile, lengths
from exporters.finetune.rows import Row, read_rows
from exporters.finetune.shapes import BadRow, Shape
from exporters.finetune.spans import Renderer
from exporters.model.source import Source
from exporters.model.vision_lm import VisionSource
from exporters.progress import Progress
from nsedge.bundle.files import sha256_of
from nsedge.runtime.text.parts import PLACE

BATCH = 256
REASONS_TOLD = 3
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length")

Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class DatasetOrder:
    """What to read, for which base, and how to divide it."""

    inputs: tuple[Path, ...]
    output: Path
    base: Source
    shape: Shape = Shape.AUTO
    validation: float = 0.1
    """The share of rows to validate with, 0 to below 1."""
    seed: int = 0
    max_tokens: int | None = None
    """None: the base's context."""
    truncate: bool = False
    system: str | None = None
    """A system turn for conversations without one."""
    strict: bool = False
    replace: bool = False


def longest(order: DatasetOrder) -> int | None:
    """Tokens that an example may have: what was asked for, within the base's context."""
    context = next((order.base.config[k] for k in CONTEXT_KEYS if k in order.base.config), None)
    given = [count for count in (order.max_tokens, context) if count is not None]
    return min(given, default=None)


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A row that made an example, before its tokens are counted."""

    file: str
    example: Example
    validates: bool


@dataclass
class _Tally:
    """What was counted over all rows."""

    tokens: array[int] = field(default_factory=lambda: array("I"))
    dropped: list[Dropped] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    validation: int = 0
    truncated: int = 0
    literal: int = 0


class Making:
    """One pass over the inputs, a batch of rows at a time."""

    def __init__(self, order: DatasetOrder, folder: Path) -> None:
        """Refuses a base whose template does not do."""
        self._order = order
        self._folder = folder
        base = order.base
        self._shelf = (
            PictureShelf(base, order.output.parent) if isinstance(base, VisionSource) else None
        )
        sight = None if self._shelf is None else self._shelf.sight
        self._marker = None if sight is None else sight.marker
        self._renderer = Renderer(base.text_reader(), sight)
        self._control = self._renderer.control
        self._longest = longest(order)
        self._seen: dict[bytes, tuple[str, int]] = {}
        self._tally = _Tally()

    def run(self, progress: Progress, digests: list[str], key: str) -> DatasetReport:
        """Write all three files into the folder; `digests` are the inputs' SHA-256."""
        train = self._folder / self._order.output.name
        validation = validation_path(train)
        size = sum(path.stat().st_size for path in self._order.inputs)
        with (
            progress.counted("Reading examples", size, unit="B") as advance,
            train.open("wb") as train_file,
            validation.open("wb") as validation_file,
        ):
            drafts = self._drafts(advance)
            while batch := list(islice(drafts, BATCH)):
                self._write(batch, train_file, validation_file)
            _flush(train_file, validation_file)
        self._check_enough()
        report = self._report(digests, key, [train, validation])
        with report_path(train).open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
            _flush(file)
        return report

    def _drafts(self, advance: Advance) -> Iterator[_Draft]:
        for path in self._order.inputs:
            for row in read_rows(path):
                self._tally.rows[str(path)] += 1
                draft = self._draft(str(path), row)
                advance(row.size)
                if draft is not None:
                    yield draft

    def _draft(self, file: str, row: Row) -> _Draft | None:
        try:
            if row.problem is not None:
                raise BadRow(row.problem)
            found = conversation_of(
                row.value, self._order.shape, system=self._order.system, marker=self._marker
            )
            seen = (
                [] if self._shelf is None else self._shelf.take(found.pictures, Path(file).parent)
            )
            pictures = tuple(one.file for one in seen)
            digest = content_digest(found.turns, [one.sha256 for one in pictures])
            rendered, learn = self._renderer.render(found, [one.part for one in seen])
        except BadRow as error:
            self._drop(file, row.number, Cause.BAD, str(error))
            return None
        if (first := self._seen.get(digest)) is not None:
            same = f"row {first[1]}" + (f" of {first[0]}" if first[0] != file else "")
            self._drop(file, row.number, Cause.DUPLICATE, f"the same as {same}")
            return None
        self._seen[digest] = (file, row.number)
        example = Example(
            row=row.number,
            messages=self._told(found.turns),
            text=rendered.text,
            learn=learn,
            literal=rendered.literal,
            pictures=pictures,
        )
        validates = share(digest, self._order.seed) < self._order.validation
        return _Draft(file=file, example=example, validates=validates)

    def _told(self, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
        """Turns as people write them: the marker where a picture stands."""
        if self._marker is None:
            return turns
        return tuple(Turn(one.role, one.content.replace(PLACE, self._marker)) for one in turns)

    def _drop(self, file: str, number: int, cause: Cause, reason: str) -> None:
        dropped = Dropped(file=file, row=number, cause=cause, reason=reason)
        if self._order.strict and cause is not Cause.DUPLICATE:
            raise ExportError(f"{dropped.line()}; without --strict it would be left out")
        self._tally.dropped.append(dropped)

    def _write(self, batch: list[_Draft], train: BinaryIO, validation: BinaryIO) -> None:
        encoded = self._control.encode_batch([draft.example.rendered for draft in batch])
        for draft, ids in zip(batch, encoded, strict=True):
            example: Example | None = draft.example
            count = len(ids)
            if self._longest is not None and count > self._longest:
                example, count = self._shortened(draft, count, self._longest)
            if example is None:
                continue
            write_examples(validation if draft.validates else train, [example])
            self._tally.tokens.append(count)
            self._tally.accepted[draft.file] += 1
            self._tally.validation += draft.validates
            self._tally.literal += bool(example.literal)

    def _shortened(self, draft: _Draft, count: int, most: int) -> tuple[Example | None, int]:
        """The example cut to `most` tokens, where that is wanted and leaves something to learn."""
        example = draft.example
        reason = f"{count} tokens, more than {most}"
        if self._order.truncate:
            short, kept = self._cut(example, most)
            if short.learn and self._keeps_pictures(short, example):
                self._tally.truncated += 1
                return short, kept
            reason += ", and nothing to learn within them"
        self._drop(draft.file, example.row, Cause.TOO_LONG, reason)
        return None, 0

    def _keeps_pictures(self, short: Example, example: Example) -> bool:
        """Whether no picture was cut off, or cut through."""
        if self._shelf is None or not example.pictures:
            return True
        token = self._shelf.sight.token
        return short.text.count(token) == example.text.count(token)

    def _cut(self, example: Example, most: int) -> tuple[Example, int]:
        """The longest beginning that takes at most `most` tokens, about; and how many."""
        end = self._control.encode_with_offsets(example.rendered).offsets[most - 1][1]
        short = beginning(example, end)
        while len(ids := self._control.encode(short.rendered)) > most:
            end -= 1
            short = beginning(example, end)
        return short, len(ids)

    def _check_enough(self) -> None:
        tally = self._tally
        if not tally.rows:
            files = ", ".join(str(path) for path in self._order.inputs)
            raise ExportError(f"{files}: no rows")
        if not tally.tokens:
            told = "; ".join(each.line() for each in tally.dropped[:REASONS_TOLD])
            raise ExportError(f"none of {tally.rows.total()} rows can be used: {told}")
        if tally.validation == len(tally.tokens):
            raise ExportError(
                f"all {tally.validation} examples fell to validation; give a smaller --validation"
            )

    def _report(self, digests: list[str], key: str, written: list[Path]) -> DatasetReport:
        tally = self._tally
        inputs = [
            InputFile(
                file=name, sha256=digest, rows=tally.rows[name], accepted=tally.accepted[name]
            )
            for name, digest in zip(map(str, self._order.inputs), digests, strict=True)
        ]
        return DatasetReport(
            key=key,
            base=self._order.base.origin,
            revision=self._order.base.revision,
            inputs=tuple(inputs),
            rows=tally.rows.total(),
            train=len(tally.tokens) - tally.validation,
            validation=tally.validation,
            truncated=tally.truncated,
            literal=tally.literal,
            pictures=0 if self._shelf is None else len(self._shelf),
            causes=dict(Counter(each.cause for each in tally.dropped)),
            lengths=lengths(tally.tokens),
            dropped=tuple(tally.dropped),
            files={path.name: sha256_of(path) for path in written},
        )


def content_digest(turns: tuple[Turn, ...], pictures: Sequence[str] = ()) -> bytes:
    """The same for conversations about the same pictures, by their SHA-256, that differ in nothing
    but blanks or Unicode's composed forms."""
    said = [(t.role, " ".join(unicodedata.normalize("NFC", t.content).split())) for t in turns]
    told = [said, pictures] if pictures else said
    return hashlib.blake2b(msgspec.json.encode(told), digest_size=16).digest()


def share(digest: bytes, seed: int) -> float:
    """A number in [0, 1) that only the content and the seed decide: rows around it do not."""
    drawn = hashlib.blake2b(digest, digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(drawn) / 2**64


def _flush(*files: BinaryIO) -> None:
    for file in files:
        file.flush()
        os.fsync(file.fileno())
