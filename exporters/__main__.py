"""nsedge-export: make a bundle of the starter model or of a model folder, and check bundles."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from exporters.cache import Cache, cache_root
from exporters.commands import (
    FAILURE,
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
    train,
    verify,
    versions,
)
from exporters.errors import ExportError
from exporters.progress import Progress
from nsedge.errors import NsedgeError
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
)
"""In the order in which --help lists them."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. 0 is success, 1 a failure told in one line, 2 a wrong call."""
    arguments = _parser().parse_args(argv)
    progress = Progress(sys.stderr)
    cache = Cache(cache_root(), progress)
    try:
        result, lines, status = arguments.run(arguments, cache)
    except (ExportError, NsedgeError, OSError) as error:
        return _fail(str(error), as_json=arguments.json)
    except KeyboardInterrupt:
        return _fail("interrupted; finished stages are kept", as_json=arguments.json)
    print(json.dumps(result) if arguments.json else "\n".join(lines))
    return int(status)


def _fail(message: str, *, as_json: bool) -> int:
    line = " ".join(message.split())
    if as_json:
        print(json.dumps({"error": line}))
    print(f"nsedge-export: {line}", file=sys.stderr)
    return FAILURE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nsedge-export", description=__doc__)
    parser.add_argument("--version", action="version", version=f"nsedge-export {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
