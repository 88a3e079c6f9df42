"""`nsedge-export run`."""

from __future__ import annotations

import argparse
from functools import partial
from importlib.resources import files
from pathlib import Path

from exporters.answer import SUCCESS, Answer
from exporters.cache import Cache
from exporters.commands import Commands
from exporters.commands.options import add_json
from exporters.errors import ExportError
from exporters.pipeline.stages import STAGE_NAMES

EXAMPLE = "recipe.toml"


def add(commands: Commands) -> None:
    """Enter the command. The stages are the other commands entered, whenever that is."""
    parser = commands.add_parser("run", help="run the stages of a recipe, from data to deployment")
    parser.add_argument("recipe", type=Path, nargs="?", metavar="RECIPE.toml")
    parser.add_argument(
        "--from",
        dest="begin",
        choices=STAGE_NAMES,
        metavar="STAGE",
        help="pass over the stages before this one: " + ", ".join(STAGE_NAMES),
    )
    parser.add_argument("--example", action="store_true", help="print a recipe to begin with")
    add_json(parser)
    parser.set_defaults(run=partial(run, commands))


def run(commands: Commands, arguments: argparse.Namespace, cache: Cache) -> Answer:
    """Run a recipe, or print one."""
    from exporters.pipeline.course import run_plan
    from exporters.pipeline.plan import read_plan

    if arguments.example:
        text = files("exporters.data").joinpath(EXAMPLE).read_text(encoding="utf-8")
        return {"recipe": text}, text.splitlines(), SUCCESS
    if arguments.recipe is None:
        raise ExportError("which recipe? nsedge-export run --example > recipe.toml prints one")
    plan = read_plan(arguments.recipe.expanduser(), commands.choices)
    return run_plan(plan, cache, begin=arguments.begin)
