"""What became of every row: the report beside train.jsonl, for programs and for people."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from exporters.finetune.examples import report_path

STAGE = "dataset"
SHOWN = 10
BAR = 40
SMALLEST_BIN = 16


class Cause(StrEnum):
    """Why a row is not there."""

    BAD = "bad"
    DUPLICATE = "duplicate"
    TOO_LONG = "too long"


class Dropped(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row that is in no output."""

    file: str
    row: int
    cause: Cause
    reason: str

    def line(self) -> str:
        """For people."""
        return f"{self.file}, row {self.row}: {self.reason}"


class InputFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of rows, of which `accepted` came through."""

    file: str
    sha256: str
    rows: int
    accepted: int


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """So many examples have at least `least` and at most `most` tokens."""

    least: int
    most: int
    examples: int


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """Of the examples, in tokens of the base model."""

    total: int
    shortest: int
    median: int
    p95: int
    longest: int
    histogram: tuple[Bin, ...]


class DatasetReport(msgspec.Struct, frozen=True, kw_only=True):
    """train.report.json. rows = train + validation + dropped."""

    stage: str = STAGE
    key: str
    """A hash of the inputs and of every parameter."""
    base: str
    revision: str | None = None
    """Of the base, where it has one."""
    inputs: tuple[InputFile, ...]
    rows: int
    train: int
    validation: int
    truncated: int
    literal: int = 0
    """Examples whose words read like control tokens of the base: learnt as the letters they are."""
    pictures: int = 0
    """Different ones that can be read."""
    causes: dict[Cause, int]
    lengths: Lengths
    dropped: tuple[Dropped, ...]
    files: dict[str, str]
    """Names of the outputs beside the report to their SHA-256."""


def read_report(path: Path) -> DatasetReport | None:
    """The report at `path`, if there is one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=DatasetReport)
    except (OSError, msgspec.DecodeError):
        return None


def lengths(tokens: array[int]) -> Lengths:
    """What is told of the token counts of the examples; there is at least one."""
    ordered = sorted(tokens)
    last = len(ordered) - 1
    return Lengths(
        total=sum(ordered),
        shortest=ordered[0],
        median=ordered[last // 2],
        p95=ordered[round(last * 0.95)],
        longest=ordered[last],
        histogram=_histogram(ordered),
    )


def _histogram(ordered: Sequence[int]) -> tuple[Bin, ...]:
    """Bins that double in width, from the first to the last that holds anything."""
    counts = Counter(_edge(count) for count in ordered)
    bins = []
    edge = min(counts)
    while edge <= max(counts):
        least = edge // 2 if edge > SMALLEST_BIN else 0
        bins.append(Bin(least=least, most=edge - 1, examples=counts[edge]))
        edge *= 2
    return tuple(bins)


def _edge(count: int) -> int:
    """The power of two above `count`."""
    return max(SMALLEST_BIN, 1 << count.bit_length())


def dataset_lines(report: DatasetReport, train: Path, *, up_to_date: bool) -> list[str]:
    """For people."""
    lines = [
        f"{train}: {'up to date; ' if up_to_date else ''}{report.train} examples to learn from,"
        f" {report.validation} to validate with, of {report.rows} rows"
    ]
    if not report.validation:
        lines.append("no row fell to validation; give more rows or a larger --validation")
    lines += _length_lines(report.lengths)
    if report.truncated:
        lines.append(f"truncated: {report.truncated}")
    if report.literal:
        lines.append(
            f"with control tokens in what is said, which are learnt as text: {report.literal}"
        )
    if report.pictures:
        lines.append(f"pictures: {report.pictures}")
    for cause, count in report.causes.items():
        lines.append(f"dropped, {cause}: {count}")
    shown = [each for each in report.dropped if each.cause is not Cause.DUPLICATE][:SHOWN]
    lines += [f"  {each.line()}" for each in shown]
    if len(report.dropped) > len(shown):
        lines.append(f"  every one of them by number and reason: {report_path(train)}")
    return lines


def _length_lines(found: Lengths) -> list[str]:
    most = max(each.examples for each in found.histogram)
    width = max(len(f"{each.least}-{each.most}") for each in found.histogram)
    lines = [
        f"tokens an example: {found.shortest} to {found.longest}, median {found.median},"
        f" 95 % up to {found.p95}; {found.total} in all"
    ]
    for each in found.histogram:
        bar = "█" * (-(-each.examples * BAR // most))
        lines.append(
            f"  {f'{each.least}-{each.most}':>{width}}  {each.examples:>7}  {bar}".rstrip()
        )
    return lines


def dataset_result(report: DatasetReport, train: Path, *, up_to_date: bool) -> dict[str, Any]:
    """For programs: the report but for the single rows, which its file has."""
    told: dict[str, Any] = msgspec.to_builtins(report)
    del told["dropped"]
    return {
        "up_to_date": up_to_date,
        "output": str(train),
        "report": str(report_path(train)),
        **told,
    }
