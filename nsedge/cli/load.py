"""`nsedge load MODEL ...`: have models in memory."""

from __future__ import annotations

import argparse

from nsedge.api import LoadResult, LoadWish
from nsedge.cli import output
from nsedge.cli.models import held_bytes
from nsedge.config.reader import Loaded
from nsedge.ipc import reach
from nsedge.process import console


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Load one after the other, and say what came of each."""
    with reach.to_core(loaded.settings) as client:
        for name in options.models:
            wish = LoadWish(
                model=name,
                priority=options.priority,
                keep_alive_s=options.keep_alive,
                pin=options.pin,
                exclusive=options.exclusive,
                wait=not options.no_wait,
            )
            result = client.load(wish)
            if options.json:
                output.say_json(result)
            else:
                console.say(_line(result))
    return 0


def _line(result: LoadResult) -> str:
    model = result.model
    held = "" if model.memory is None else f", {output.bytes_text(held_bytes(model.memory))}"
    took = "" if model.load_s is None else f", {model.load_s:.2f} s"
    return f"{model.name}: {result.outcome.value.replace('_', ' ')}{held}{took}"
