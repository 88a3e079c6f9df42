"""`nsedge models`: what is served, in memory or on disk."""

from __future__ import annotations

import argparse

from nsedge.api import ModelInfo, ModelMemory
from nsedge.cli import output
from nsedge.config.reader import Loaded
from nsedge.ipc import reach
from nsedge.process import console

HEADS = (
    "MODEL",
    "STATE",
    "MEMORY",
    "KEPT",
    "IN USE",
    "PROVIDER",
    "VARIANT",
    "CONTEXT",
    "SLOTS",
    "CHAT",
    "ALIASES",
)


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """List the models of the running core."""
    with reach.to_core(loaded.settings) as client:
        models = client.models()
    if options.json:
        output.say_json({"models": models})
    else:
        console.say(*output.table(HEADS, [_row(model) for model in models]))
    return 0


def _row(model: ModelInfo) -> tuple[object, ...]:
    return (
        model.name,
        _state(model),
        "-" if model.memory is None else output.bytes_text(held_bytes(model.memory)),
        "pinned" if model.pinned else output.seconds_text(model.keep_alive_s),
        model.in_use,
        model.provider or "-",
        model.variant or "-",
        model.context_tokens,
        model.slots,
        "yes" if model.has_chat_template else "no",
        ", ".join(model.aliases) or "-",
    )


def held_bytes(memory: ModelMemory) -> int:
    """The bytes that a model holds, of whatever memory."""
    return memory.weights_bytes + memory.arena_bytes + memory.kv_bytes + memory.device_bytes


def _state(model: ModelInfo) -> str:
    if model.error is not None:
        return f"{model.state.value}: {model.error}"
    if model.queue_position:
        return f"{model.state.value}, {model.queue_position} before it"
    if model.progress is not None:
        return f"{model.state.value}, {model.progress:.0%}"
    return model.state.value
