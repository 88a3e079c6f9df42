"""`nsedge reload MODEL ...`: read bundles anew."""

from __future__ import annotations

import argparse

from nsedge.cli import output
from nsedge.config.reader import Loaded
from nsedge.ipc import reach
from nsedge.process import console


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Reload one after the other; what runs ends on the old one."""
    with reach.to_core(loaded.settings) as client:
        for name in options.models:
            model = client.reload(name)
            if options.json:
                output.say_json(model)
            else:
                console.say(f"{model.name}: reloaded, {output.seconds_text(model.load_s)}")
    return 0
