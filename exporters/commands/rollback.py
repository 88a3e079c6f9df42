"""`nsedge-export rollback`."""

from __future__ import annotations

import argparse

from exporters.answer import Answer
from exporters.cache import Cache
from exporters.commands import Commands
from exporters.commands.deploy_options import add_offline, add_place, told, yard


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("rollback", help="go back to an earlier version")
    parser.add_argument("alias", metavar="ALIAS")
    parser.add_argument(
        "--to-version", metavar="V", help="a version, or its beginning (default: the one before)"
    )
    add_offline(parser)
    add_place(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Load the earlier version, and switch."""
    from exporters.deploy.deployment import roll_back

    with yard(arguments, cache.progress) as place:
        back = roll_back(arguments.alias, place, version=arguments.to_version)
    return told(back, offline=arguments.offline)
