"""`nsedge stats`: what the core is doing."""

from __future__ import annotations

import argparse

from nsedge.api import ModelStats, Stats
from nsedge.cli import connect, output
from nsedge.config import Loaded

HEADS = (
    "MODEL",
    "RUNNING",
    "WAITING",
    "SLOTS",
    "KV TOKENS",
    "STEPS",
    "MS/STEP",
    "READ",
    "REUSED",
    "WRITTEN",
)


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Show counters and gauges of the running core."""
    with connect.to_core(loaded.settings) as client:
        stats = client.stats()
    if options.json:
        output.say_json(stats)
    else:
        print(_text(stats))
    return 0


def _text(stats: Stats) -> str:
    head = (
        f"up {stats.uptime_s:.0f} s, {output.bytes_text(stats.rss_bytes)} resident, "
        f"{stats.requests_accepted} requests accepted"
    )
    rows = [_row(name, model) for name, model in stats.models.items()]
    ends = [
        f"{name} ended: " + ", ".join(f"{count} {why}" for why, count in model.finished.items())
        for name, model in stats.models.items()
        if model.finished
    ]
    return "\n".join([head, output.table(HEADS, rows), *ends])


def _row(name: str, model: ModelStats) -> tuple[object, ...]:
    pace = model.step_s / model.steps * 1e3 if model.steps else 0.0
    return (
        name,
        model.running,
        model.waiting,
        model.slots,
        f"{model.kv_tokens_used}/{model.kv_tokens_capacity}",
        model.steps,
        round(pace, 1),
        model.prompt_tokens,
        model.prefix_hit_tokens,
        model.completion_tokens,
    )
