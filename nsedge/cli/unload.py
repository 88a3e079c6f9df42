"""`nsedge unload MODEL ...`: let models leave memory."""

from __future__ import annotations

import argparse

from nsedge.api import ModelInfo
from nsedge.cli import output
from nsedge.config.reader import Loaded
from nsedge.errors import InvalidParameter
from nsedge.ipc import reach
from nsedge.process import console


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Unload when what runs has ended, and say what left."""
    if bool(options.models) == options.all:
        raise InvalidParameter("name models, or say --all")
    gone: list[ModelInfo] = []
    with reach.to_core(loaded.settings) as client:
        for name in [None] if options.all else options.models:
            gone += client.unload(name, drain_s=options.drain)
    if options.json:
        output.say_json({"unloaded": [model.name for model in gone]})
    else:
        console.say(", ".join(model.name for model in gone) or "nothing was in memory")
    return 0
