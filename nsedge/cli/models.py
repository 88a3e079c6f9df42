"""`nsedge models`: what is served."""

from __future__ import annotations

import argparse

from nsedge.api import ModelInfo
from nsedge.cli import connect, output
from nsedge.config import Loaded

HEADS = ("MODEL", "STATE", "PROVIDER", "VARIANT", "CONTEXT", "SLOTS", "CHAT")


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """List the models of the running core."""
    with connect.to_core(loaded.settings) as client:
        models = client.models()
    if options.json:
        output.say_json({"models": models})
    else:
        print(output.table(HEADS, [_row(model) for model in models]))
    return 0


def _row(model: ModelInfo) -> tuple[object, ...]:
    return (
        model.name,
        model.state.value if model.error is None else f"{model.state.value}: {model.error}",
        model.provider or "-",
        model.variant or "-",
        model.context_tokens,
        model.slots,
        "yes" if model.has_chat_template else "no",
    )
