"""argparse as this program wants it: mistakes in one line that says what may have been meant."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, NoReturn

from nsedge.cli.exits import ExitStatus, guarded
from nsedge.config.spelling import nearest
from nsedge.process import console

_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, and lets flags stand among the words of a prompt."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)
        self.set_defaults(parser=self)  # whose flags they are: the innermost one's

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The options; a word too many ends the program, as every mistake does."""
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            options.parser.error(_unknown(rest[0], options.parser))
        return options

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The options, and the words that are none."""
        options, rest = super().parse_known_args(args, namespace)
        if "prompt" not in options:
            return options, rest
        at = rest.index("--") if "--" in rest else len(rest)
        words = [word for word in rest[:at] if not word.startswith("-")]
        options.prompt = [*options.prompt, *words, *rest[at + 1 :]]
        return options, [word for word in rest[:at] if word.startswith("-")]

    def error(self, message: str) -> NoReturn:
        """One line, and status 2."""
        console.note(f"{self.prog}: {message}; see {self.prog} --help")
        sys.exit(ExitStatus.USAGE)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            told = f"{value!r} is none of {', '.join(known)}{nearest(str(value), known)}"
            raise argparse.ArgumentError(action, told)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Help and version; argparse itself says nothing where they cannot be written."""

        def write() -> int:
            console.write(message)
            return ExitStatus.OK

        if status := guarded(write, as_json=False):
            sys.exit(status)


def _unknown(word: str, parser: argparse.ArgumentParser) -> str:
    if not word.startswith("-"):
        return f"{word!r} is a word too many"
    flag = word.partition("=")[0]
    return f"no flag {flag}{nearest(flag, sorted(set(_FLAG.findall(parser.format_help()))))}"
