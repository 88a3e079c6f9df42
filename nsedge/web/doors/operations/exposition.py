"""Prometheus' text format, version 0.0.4: families of samples, written in order."""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Mapping

from nsedge.telemetry.histogram import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = Mapping[str, str]
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})


class Kind(enum.StrEnum):
    """What a family is."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family:
    """A metric, with its samples."""

    def __init__(self, name: str, kind: Kind, meaning: str) -> None:
        self.name = name
        self.kind = kind
        self.meaning = meaning
        self._lines: list[str] = []

    def add(self, value: float, **labels: str) -> None:
        """A sample of a counter or gauge."""
        self._sample("", value, labels)

    def spread(self, seen: Histogram, **labels: str) -> None:
        """A sample of a histogram: cumulative buckets, sum and count."""
        ends = [*map(repr, seen.bounds_s), "+Inf"]
        totals = list(itertools.accumulate(seen.counts))
        for end, total in zip(ends, totals, strict=True):
            self._sample("_bucket", total, {**labels, "le": end})
        self._sample("_sum", seen.sum_s, labels)
        self._sample("_count", totals[-1], labels)

    def text(self) -> str:
        """The family as it is told; nothing where it has no sample."""
        if not self._lines:
            return ""
        head = f"# HELP {self.name} {self.meaning}\n# TYPE {self.name} {self.kind}\n"
        return head + "".join(self._lines)

    def _sample(self, suffix: str, value: float, labels: Labels) -> None:
        said = ",".join(f'{name}="{text.translate(_ESCAPES)}"' for name, text in labels.items())
        braces = f"{{{said}}}" if said else ""
        self._lines.append(f"{self.name}{suffix}{braces} {_number(value)}\n")


class Page:
    """Families by name, in the order they were first asked for."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def counter(self, name: str, meaning: str) -> Family:
        """What only grows. Its name ends in `_total`."""
        return self._family(name, Kind.COUNTER, meaning)

    def gauge(self, name: str, meaning: str) -> Family:
        """What comes and goes."""
        return self._family(name, Kind.GAUGE, meaning)

    def histogram(self, name: str, meaning: str) -> Family:
        """How long things take."""
        return self._family(name, Kind.HISTOGRAM, meaning)

    def text(self) -> str:
        """The whole page."""
        return "".join(family.text() for family in self._families.values())

    def _family(self, name: str, kind: Kind, meaning: str) -> Family:
        return self._families.setdefault(name, Family(name, kind, meaning))


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
