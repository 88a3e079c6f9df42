"""The flags that say how a request is to be scheduled, and what they say."""

from __future__ import annotations

import argparse

from nsedge.api import Priority
from nsedge.api.models import keep_alive_of
from nsedge.api.scheduling import SchedulingFields
from nsedge.errors import InvalidParameter


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a command that sends a request."""
    group = parser.add_argument_group("scheduling")
    add_priority_flag(group)
    group.add_argument(
        "--deadline", type=float, metavar="SECONDS", help="fail where it is not done by then"
    )
    group.add_argument(
        "--keep-alive", type=keep_alive, metavar="TIME",
        help="unload the model when unused so long from then on: 300, 5m, now, forever",
    )  # fmt: skip


def add_priority_flag(group: argparse._ActionsContainer) -> None:
    """`--priority` alone."""
    group.add_argument(
        "--priority", choices=[*Priority], type=Priority, default=Priority.NORMAL,
        metavar="CLASS", help="interactive, normal or batch",
    )  # fmt: skip


def keep_alive(text: str) -> float:
    """The seconds that a flag's `text` stands for."""
    try:
        return keep_alive_of(text)
    except InvalidParameter as error:
        raise argparse.ArgumentTypeError(error.message) from error


def scheduling_of(options: argparse.Namespace) -> SchedulingFields:
    """What the flags say of scheduling."""
    return {
        "priority": options.priority,
        "deadline_s": options.deadline,
        "keep_alive_s": options.keep_alive,
    }
