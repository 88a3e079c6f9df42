"""nsedge-export: make a bundle of the starter model or of a model folder, and check bundles."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from exporters.answer import CLOSED_OUTPUT, FAILURE, INTERRUPTED, USAGE
from exporters.cache import Cache, cache_root
from exporters.commands import (
    adapter,
    dataset,
    deploy,
    export,
    import_gguf,
    merge,
    model,
    package,
    rollback,
    run,
    starter,
    tokenizers,
    train,
    verify,
    versions,
)
from exporters.errors import ExportError
from exporters.progress import Progress
from exporters.stopping import Stops, stops
from nsedge.errors import NsedgeError
from nsedge.process import console
from nsedge.version import VERSION

COMMANDS = (
    run,
    starter,
    model,
    import_gguf,
    dataset,
    train,
    merge,
    export,
    package,
    adapter,
    verify,
    deploy,
    rollback,
    versions,
    tokenizers,
)
"""In the order in which --help lists them."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. 0 is success, 1 a failure told in one line, 2 a wrong call; 130 and 143 are
    being asked to end, by Ctrl-C and by SIGTERM."""
    console.prepare()
    with stops() as heard:
        return _command(argv, heard)


def _command(argv: Sequence[str] | None, heard: Stops) -> int:
    try:
        arguments = command_parser().parse_args(_texts(argv))
    except SystemExit as end:  # help, or a wrong call: told already
        sys.exit(_said([], status=int(end.code or 0)))
    cache = Cache(cache_root(), Progress(sys.stderr))
    try:
        result, lines, status = arguments.run(arguments, cache)
    except (ExportError, NsedgeError, OSError, UnicodeError) as error:
        return _fail(str(error), as_json=arguments.json, status=heard.status or FAILURE)
    except KeyboardInterrupt:
        return _fail(
            "interrupted; finished stages are kept",
            as_json=arguments.json,
            status=heard.status or INTERRUPTED,
        )
    return _said([json.dumps(result)] if arguments.json else lines, status=int(status))


def _texts(argv: Sequence[str] | None) -> list[str]:
    """The arguments as text; what is none ends the command in one line, status 2."""
    try:
        return [console.text_of(word) for word in (sys.argv[1:] if argv is None else argv)]
    except ValueError as error:
        console.note(f"nsedge-export: an argument is not text: {error}")
        sys.exit(USAGE)


def _fail(message: str, *, as_json: bool, status: int) -> int:
    line = " ".join(message.split())
    console.note(f"nsedge-export: {line}")
    return _said([json.dumps({"error": line})] if as_json else [], status=status)


def _said(lines: Sequence[str], *, status: int) -> int:
    """`status`, once standard output has taken `lines`; what was made stays made if it does not."""
    try:
        if lines:
            console.say(*lines)
        console.write("")
    except BrokenPipeError:
        status = CLOSED_OUTPUT
    except console.OutputLost as error:
        console.note(f"nsedge-export: {error}")
        status = status or FAILURE
    console.settle()
    return status


def command_parser() -> argparse.ArgumentParser:
    """The grammar of `nsedge-export`, every command in it."""
    parser = argparse.ArgumentParser(prog="nsedge-export", description=__doc__)
    parser.add_argument("--version", action="version", version=f"nsedge-export {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
