"""The sub-commands, a module each: `add` enters one in the parser, `run` is what it then calls."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from exporters.cache import Cache

Commands = Any
"""What `argparse.ArgumentParser.add_subparsers` gives; its class is private."""
Answer = tuple[dict[str, Any], list[str], int]
"""What a command found: for programs, for people, and the exit status."""
Run = Callable[[argparse.Namespace, Cache], Answer]

SUCCESS = 0
FAILURE = 1
USAGE = 2
CLOSED_OUTPUT = 141
"""The reader of standard output went away: 128 and SIGPIPE."""
