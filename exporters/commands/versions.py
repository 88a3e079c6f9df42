"""`nsedge-export versions`."""

from __future__ import annotations

import argparse

from exporters.answer import SUCCESS, Answer
from exporters.cache import Cache
from exporters.commands import Commands
from exporters.commands.deploy_options import add_place, place


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("versions", help="list deployed versions, and which are served")
    parser.add_argument("alias", nargs="?", metavar="ALIAS")
    add_place(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Ask the daemon what it serves; without one, what its next start will."""
    from exporters.deploy.listing import as_lines, as_result, listed
    from exporters.deploy.targets import StoppedDaemon, reached
    from nsedge.config import pairs

    settings, store = place(arguments)
    with reached(settings, store, cache.progress) as daemon:
        target = daemon or StoppedDaemon(store, pairs.named(settings.models.aliases))
        found = listed(store, target.aliases(), arguments.alias)
    lines = as_lines(found)
    if daemon is None:
        lines.append(f"no daemon at {settings.core.endpoint}: SERVED AS is from its next start on")
    asked = None if daemon is None else settings.core.endpoint
    return as_result(found, asked=asked), lines, SUCCESS
