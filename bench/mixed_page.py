"""The figures of `bench.mixed` for docs/performance.md."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping
from typing import Any

from bench.tables import markdown

Result = Mapping[str, Any]
WIDTH = 100
QUIET = "quiet"


def mixed(result: Result) -> str:
    """The machine and the load, and a line for each kind of other work."""
    return f"{_load(result)}\n\n{_table(result)}"


def _load(result: Result) -> str:
    machine, options = result["machine"], result["options"]
    vector = machine["vector"][-1] if machine["vector"] else "no vector units"
    beside = options["beside"]
    return textwrap.fill(
        f"Machine: {machine['cores']} cores of an {machine['cpu']} with vector units up to"
        f" {vector}; {options['bundle']}, {options['streams']} streams of {options['tokens']}"
        f" tokens, {options['threads']} threads; beside it {', '.join(beside)}. Taken on"
        f" {result['date'][:10]}, {options['rounds']} rounds; others took up to"
        f" {max(result['others_cores']):.1f} cores meanwhile.",
        WIDTH,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table(result: Result) -> str:
    p99_s, median_s = result["inter_token_p99_s"], result["inter_token_median_s"]
    lines = [
        (
            name,
            *(f"{1e3 * statistics.median(found[name]):.1f}" for found in (median_s, p99_s)),
            f"{result['ratios'][name]:.2f}" if name != QUIET else "",
            ", ".join(
                f"{rate:g} {kind}" for kind, rate in result["answered_per_s"].get(name, {}).items()
            ),
        )
        for name in p99_s
    ]
    heads = (
        f"beside {result['options']['others']} requests for",
        "between two tokens, median, ms",
        "p99, ms",
        "by that of quiet (to be at most 2)",
        "answered a second",
    )
    return markdown(heads, lines)
