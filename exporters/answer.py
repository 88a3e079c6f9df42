"""What a command of `nsedge-export` answers."""

from __future__ import annotations

from typing import Any

Answer = tuple[dict[str, Any], list[str], int]
"""What a command found: for programs, for people, and the exit status."""

SUCCESS = 0
FAILURE = 1
USAGE = 2
INTERRUPTED = 130
"""Ctrl-C: 128 and SIGINT, as shells say it. SIGTERM is 143."""
CLOSED_OUTPUT = 141
"""The reader of standard output went away: 128 and SIGPIPE."""
