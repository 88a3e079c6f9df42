"""`nsedge stats`: what the core is doing."""

from __future__ import annotations

import argparse

from nsedge.api import ModelMemory, ModelStats, ResidencyStats, Stats
from nsedge.cli import output
from nsedge.config.reader import Loaded
from nsedge.ipc import reach
from nsedge.process import console

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
    "WEIGHTS",
    "KV",
    "ARENA",
)


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Show counters and gauges of the running core."""
    with reach.to_core(loaded.settings) as client:
        stats = client.stats()
    if options.json:
        output.say_json(stats)
    else:
        console.say(*_lines(stats))
    return 0


def _lines(stats: Stats) -> list[str]:
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
    return [head, *_residency(stats.residency), *output.table(HEADS, rows), *ends]


def _residency(held: ResidencyStats | None) -> list[str]:
    if held is None:
        return []
    budget = "no budget" if held.budget_bytes is None else output.bytes_text(held.budget_bytes)
    lines = [
        f"models claim {output.bytes_text(held.used_bytes)} of {budget}; {held.loads} loads,"
        f" {held.load_failures} failed, {held.evictions} evicted, {held.idle_unloads} left idle"
    ]
    if held.guesses:
        lines.append(
            f"{held.guesses} loaded before anybody asked: {held.guesses_used} were then used,"
            f" {held.guesses_wasted} left unused"
        )
    if held.device_used_bytes:
        lines.append(f"and {output.bytes_text(held.device_used_bytes)} of the device's memory")
    return lines


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
        *_memory(model.memory),
    )


def _memory(held: ModelMemory | None) -> tuple[str, str, str]:
    if held is None:
        return ("-", "-", "-")
    text = output.bytes_text
    kv_bytes = held.kv_bytes + held.device_bytes
    return (text(held.weights_bytes), text(kv_bytes), text(held.arena_bytes))
