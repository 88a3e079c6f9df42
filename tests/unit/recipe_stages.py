"""Small stages for recipes: each writes a file that says what it was given."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from exporters.answer import FAILURE, SUCCESS, Answer
from exporters.cache import Cache
from exporters.commands import Commands, dataset, run
from exporters.commands.options import add_json, positive
from exporters.errors import ExportError
from exporters.progress import Progress


def _stage(name: str, enter: Callable[[argparse.ArgumentParser], None]) -> Callable[..., None]:
    def work(arguments: argparse.Namespace, cache: Cache) -> Answer:
        if name == os.environ.get("FAILING_STAGE"):
            raise ExportError(f"{name} cannot\ngo on")
        if name == os.environ.get("KILLED_STAGE"):
            os.kill(os.getpid(), signal.SIGKILL)
        given = {k: v for k, v in vars(arguments).items() if k not in ("run", "json")}
        out = given.get("out")
        if out is not None:
            made = not out.exists()
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(given, default=str))
            return {"made": made}, [f"{name} wrote {out}"], SUCCESS
        return {"given": json.loads(json.dumps(given, default=str))}, [name], SUCCESS

    def add(commands: Commands) -> None:
        parser = commands.add_parser(name)
        enter(parser)
        add_json(parser)
        parser.set_defaults(run=work)

    return add


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", required=True)
    parser.add_argument("--revision")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    group = parser.add_argument_group("learning")
    group.add_argument("--epochs", type=positive, default=1)
    group.add_argument("--targets", metavar="NAME,...")
    group.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=None)
    group.add_argument("--lr", type=float)


def _merge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", required=True)
    parser.add_argument("--adapter", action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--variants")


def _model(parser: argparse.ArgumentParser) -> None:
    _export(parser)
    parser.add_argument("--name")


def _package(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("graphs", type=Path, metavar="DIR")
    parser.add_argument("--name", required=True)
    parser.add_argument("--out", type=Path)


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--quick", action="store_true")


def _deploy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--as", dest="alias")


ADDS = (
    *(_stage("train", _train), _stage("merge", _merge), _stage("export", _export)),
    *(
        _stage("package", _package),
        _stage("model", _model),
        _stage("verify", _verify),
        _stage("deploy", _deploy),
    ),
)


def failing_check(commands: Commands) -> None:
    """A `verify` that finds something, without an error."""
    parser = commands.add_parser("verify")
    parser.add_argument("bundle")
    parser.set_defaults(run=lambda arguments, cache: ({"passed": False}, ["KL too high"], FAILURE))


def entered(*adds: Callable[..., None]) -> tuple[argparse.ArgumentParser, Commands]:
    """A command line of these, of `dataset` and of `run`; and its commands."""
    made = argparse.ArgumentParser(prog="stages")
    commands = made.add_subparsers(required=True)
    for add in (run.add, dataset.add, *(adds or ADDS)):
        add(commands)
    return made, commands


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command, by its name."""
    _, commands = entered()
    return dict(commands.choices)


def call(*words: str, cache: Path) -> Answer:
    """What a call comes to; the stages' own words go to standard error."""
    made, _ = entered()
    arguments = made.parse_args(words)
    answer: Answer = arguments.run(arguments, Cache(cache, Progress(sys.stderr)))
    return answer


if __name__ == "__main__":
    print(json.dumps(call(*sys.argv[2:], cache=Path(sys.argv[1]))))
