"""The flags that say how a request is to be scheduled, and what they say."""

from __future__ import annotations

import argparse

from nsedge.api import Priority
from nsedge.api.scheduling import SchedulingFields
from nsedge.cli import values


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a command that sends a request."""
    group = parser.add_argument_group("scheduling")
    add_priority_flag(group)
    group.add_argument(
        "--deadline", type=values.number, metavar="SECONDS",
        help="fail where it is not done by then",
    )  # fmt: skip
    group.add_argument(
        "--keep-alive", type=values.keep_alive, metavar="TIME",
        help="unload the model when unused so long from then on: 300, 5m, now, forever",
    )  # fmt: skip


def add_priority_flag(group: argparse._ActionsContainer) -> None:
    """`--priority` alone."""
    group.add_argument(
        "--priority", type=values.priority, default=Priority.NORMAL,
        metavar="CLASS", help="interactive, normal or batch",
    )  # fmt: skip


def scheduling_of(options: argparse.Namespace) -> SchedulingFields:
    """The scheduling that the flags ask for."""
    return {
        "priority": options.priority,
        "deadline_s": options.deadline,
        "keep_alive_s": options.keep_alive,
    }
