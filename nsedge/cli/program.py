"""Compose and run: parse the arguments, read the settings, run the command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from nsedge.cli import arguments, commands, exits, starting
from nsedge.config import reader as config
from nsedge.process import console


def prepared(words: Sequence[str] | None) -> Callable[[], int]:
    """One command, ready to run; `words` are the arguments, the process's own by default."""
    console.prepare()
    said = arguments.parse(sys.argv[1:] if words is None else words)

    def command() -> int:
        loaded = config.load(config.environment(), file=said.config, overrides=said.overrides)
        with starting.importing():
            run = commands.find(said.command)
        return run(loaded, said.options)

    return lambda: exits.guarded(command, as_json=said.json)
