"""The flags that say what an answer must look like, and what they say."""

from __future__ import annotations

import argparse
from pathlib import Path

from nsedge.api import Constraint
from nsedge.errors import InvalidParameter
from nsedge.process import console


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a command that has text written; one of them may be given."""
    titled = parser.add_argument_group("what the answer must look like (docs/structure.md)")
    group = titled.add_mutually_exclusive_group()
    group.add_argument(
        "--json-schema", type=Path, metavar="FILE", help="JSON that fits the schema in this file"
    )
    group.add_argument("--json-object", action="store_true", help="any JSON object")
    group.add_argument("--regex", metavar="PATTERN", help="what this matches as a whole")
    group.add_argument(
        "--choice", action="append", metavar="TEXT", help="one of these texts; give it again"
    )
    group.add_argument(
        "--grammar", type=Path, metavar="FILE", help="what the grammar in this file gives"
    )


def constraint_of(options: argparse.Namespace) -> Constraint | None:
    """The constraint that the flags ask for, checked; None where they ask for none.

    Raises:
        InvalidParameter: it is none, or its file cannot be read.
    """
    found: Constraint | None = None
    if options.json_schema is not None:
        found = Constraint.json_schema(_text(options.json_schema, "--json-schema"))
    elif options.json_object:
        found = Constraint.json_object()
    elif options.regex is not None:
        found = Constraint.regex(options.regex)
    elif options.choice is not None:
        found = Constraint.choice(options.choice)
    elif options.grammar is not None:
        found = Constraint.grammar(_text(options.grammar, "--grammar"))
    if found is not None:
        found.check()
    return found


def _text(path: Path, flag: str) -> str:
    try:
        return console.text_of(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidParameter(f"{flag} {path}: {error}") from error
