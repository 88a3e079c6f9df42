"""`nsedge-export deploy`."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from exporters.answer import Answer
from exporters.cache import Cache
from exporters.commands import Commands
from exporters.commands.deploy_options import add_offline, add_place, told, yard
from nsedge.bundle.fields import Name


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("deploy", help="have a running daemon serve a bundle")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "--as",
        dest="alias",
        type=_alias,
        metavar="ALIAS",
        help="what clients shall ask for (default: the bundle's name)",
    )
    parser.add_argument(
        "--link",
        action="store_true",
        help="hard links instead of copies: the bundle's files must not be changed in place then",
    )
    parser.add_argument(
        "--keep",
        type=_count,
        default=3,
        metavar="N",
        help="earlier versions of the alias to keep in the store (default: %(default)s)",
    )
    add_offline(parser)
    add_place(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Copy, load, try out, switch."""
    from exporters.deploy.deployment import Order, deploy

    order = Order(
        bundle=arguments.bundle.expanduser().absolute(),
        alias=arguments.alias,
        link=arguments.link,
        keep=arguments.keep,
    )
    with yard(arguments, cache.progress) as place:
        return told(deploy(order, place), offline=arguments.offline)


def _alias(text: str) -> str:
    try:
        return msgspec.convert(text, Name)
    except msgspec.ValidationError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: lower case, digits, '.', '_' and '-', at most 128, the first no sign"
        ) from error


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("at least 0")
    return number
