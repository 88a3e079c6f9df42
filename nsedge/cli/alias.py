"""`nsedge alias NAME [MODEL]`: a further name for a model."""

from __future__ import annotations

import argparse

from nsedge.cli import output
from nsedge.config.reader import Loaded
from nsedge.ipc import reach
from nsedge.process import console


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Give the name, or without a model take it away. It is kept over restarts; where that cannot
    be written, a line on standard error says so, and the name holds until the core stops."""
    with reach.to_core(loaded.settings) as client:
        result = client.alias(options.name, options.model)
    model = None if result.model is None else result.model.name
    if options.json:
        output.say_json({"alias": options.name, "model": model, "unkept": result.unkept})
    else:
        console.say(f"{options.name} -> {model or 'nothing'}")
    if result.unkept is not None:
        console.note(
            "nsedge: this holds until the daemon stops, but is not kept over a restart:"
            f" {result.unkept}"
        )
    return 0
