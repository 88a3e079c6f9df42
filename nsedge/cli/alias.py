"""`nsedge alias NAME [MODEL]`: a further name for a model."""

from __future__ import annotations

import argparse

from nsedge.cli import output
from nsedge.config.reader import Loaded
from nsedge.ipc import reach
from nsedge.process import console


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Give the name, or without a model take it away; it is kept over restarts."""
    with reach.to_core(loaded.settings) as client:
        named = client.alias(options.name, options.model)
    if options.json:
        output.say_json({"alias": options.name, "model": None if named is None else named.name})
    else:
        console.say(f"{options.name} -> {'nothing' if named is None else named.name}")
    return 0
