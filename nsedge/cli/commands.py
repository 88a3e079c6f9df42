"""From a command's name to its code."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable

from nsedge.config.reader import Loaded
from nsedge.errors import ConfigInvalid

Command = Callable[[Loaded, argparse.Namespace], int]
"""Runs with the settings in force and its own options; gives the exit status."""

_EXTRAS = {"aiohttp": "web"}
"""Packages that come with an extra only."""


def find(name: str) -> Command:
    """Import the command's module by name, so that `nsedge run` never waits for the engine's
    libraries to load.

    Raises:
        ConfigInvalid: where an extra that it needs is not installed.
    """
    try:
        command: Command = importlib.import_module(f"nsedge.cli.{name.replace('-', '_')}").run
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        if extra is None:
            raise
        missing = f"`nsedge {name}` needs {error.name}"
        raise ConfigInvalid(f"{missing}: pip install 'nsedge[{extra}]'") from error
    return command
