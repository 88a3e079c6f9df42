"""`nsedge-export verify`."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporters.cache import Cache
from exporters.commands import FAILURE, SUCCESS, Answer, Commands
from exporters.commands.options import add_json


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = commands.add_parser("verify", help="check hashes, golden prompts and fidelity")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Check the bundle."""
    from exporters.report import verify_lines, verify_result
    from exporters.verify import verify_bundle

    verdict = verify_bundle(arguments.bundle.expanduser().absolute(), cache)
    status = SUCCESS if verdict.passed else FAILURE
    return verify_result(verdict), verify_lines(verdict), status
