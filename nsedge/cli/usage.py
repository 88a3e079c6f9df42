"""`nsedge usage`: how models have been used, and which are worth loading."""

from __future__ import annotations

import argparse
import datetime

from nsedge.api import ModelUsage, UsageReport
from nsedge.cli import output
from nsedge.config.reader import Loaded
from nsedge.ipc import reach
from nsedge.process import console

HEADS = ("MODEL", "USES", "MEAN s", "LAST USED", "SCORE", "NEXT", "OFTEN BEFORE")


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Show the statistics of the running core."""
    with reach.to_core(loaded.settings) as client:
        report = client.usage()
    if options.json:
        output.say_json(report)
    else:
        console.say(*_lines(report))
    if report.unkept is not None:
        console.note(f"nsedge: these figures are not kept over a restart: {report.unkept}")
    return 0


def _lines(report: UsageReport) -> list[str]:
    rows = [_row(name, used) for name, used in report.models.items()]
    worth = ", ".join(f"{one.model} ({one.likelihood:.0%})" for one in report.recommendations)
    tells = f"worth having in memory, by {report.predictor}: {worth or 'nothing is known yet'}"
    held = f"the first {report.preload_top} are loaded while the daemon is idle"
    return [*output.table(HEADS, rows), tells, *([held] if report.preload_top else [])]


def _row(name: str, used: ModelUsage) -> tuple[object, ...]:
    last = datetime.datetime.fromtimestamp(used.last_used_s).isoformat(" ", "seconds")
    followers = sorted(used.followed_by, key=lambda other: -used.followed_by[other])
    return (
        name,
        used.usage_count,
        round(used.total_s / max(1, used.usage_count), 2),
        last,
        round(used.priority_score, 2),
        f"{used.likelihood:.0%}",
        ", ".join(followers[:2]) or "-",
    )
