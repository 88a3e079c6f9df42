"""A recipe's table to the arguments of a command, through the command's own parser."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Mapping
from typing import NoReturn

from exporters.errors import ExportError
from exporters.pipeline.stages import POSITIONAL

NOT_IN_RECIPES = ("help", "json")


class CommandOptions:
    """The options of one command, by every name that a recipe may use for them."""

    def __init__(self, parser: argparse.ArgumentParser, *, where: str) -> None:
        """where: the file and the table that messages name."""
        self._parser = _Parser(where=where, parents=[parser])
        self._where = where
        self._actions: dict[str, argparse.Action] = {}
        for action in parser._actions:
            if action.dest in NOT_IN_RECIPES:
                continue
            for name in _names(action):
                self._actions.setdefault(name, action)

    def knows(self, name: str) -> bool:
        """Whether there is an option of this name."""
        return name in self._actions

    def namespace(
        self, table: Mapping[str, object], defaults: Mapping[str, str]
    ) -> argparse.Namespace:
        """What the command's parser makes of a table, and of `defaults` for what it leaves out.

        Raises:
            ExportError: an unknown key, or a value that the command does not take.
        """
        given: dict[argparse.Action, object] = {}
        for key, value in table.items():
            action = self._action(key)
            if action in given:
                raise ExportError(f"{self._where} says the same twice: {key}")
            given[action] = value
        for name, default in defaults.items():
            given.setdefault(self._actions[name], default)
        options: list[str] = []
        positional: list[str] = []
        for action, value in given.items():
            words = self._words(action, value)
            (options if action.option_strings else positional).extend(words)
        return self._parser.parse_args([*options, *(["--", *positional] if positional else [])])

    def value(self, arguments: argparse.Namespace, name: str) -> object:
        """What an option of this name came to."""
        return getattr(arguments, self._actions[name].dest)

    def _action(self, key: str) -> argparse.Action:
        action = self._actions.get(_plain(key)) if key else None
        if action is None:
            raise ExportError(f"{self._where} has no {key!r}{near(_plain(key), self._actions)}")
        return action

    def _words(self, action: argparse.Action, value: object) -> list[str]:
        """As somebody would write it in a shell."""
        if action.option_strings and action.nargs == 0:
            return self._flag(action, value)
        if isinstance(value, bool) and isinstance(action, argparse.BooleanOptionalAction):
            return self._flag(action, value)
        values = value if isinstance(value, list) else [value]
        texts = [self._text(action, each) for each in values]
        if not action.option_strings:
            return texts
        name = _long(action)
        if isinstance(action, argparse._AppendAction):
            return [f"{name}={text}" for text in texts]
        if action.nargs in ("+", "*"):
            return [name, *texts]
        return [f"{name}={','.join(texts)}"]

    def _flag(self, action: argparse.Action, value: object) -> list[str]:
        if not isinstance(value, bool):
            raise ExportError(f"{self._where}: {_said(action)} is true or false")
        if value:
            return [_long(action)]
        return [option for option in action.option_strings if option.startswith("--no-")]

    def _text(self, action: argparse.Action, value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ExportError(
                f"{self._where}: {_said(action)} is a text, a number or a list of them"
            )
        return str(value)


class _Parser(argparse.ArgumentParser):
    """A command's parser that raises where that one would end the process."""

    def __init__(self, *, where: str, parents: list[argparse.ArgumentParser]) -> None:
        super().__init__(parents=parents, add_help=False, allow_abbrev=False)
        self._where = where

    def error(self, message: str) -> NoReturn:
        """Raises ExportError."""
        raise ExportError(f"{self._where}: {message}")


def near(word: str, known: Iterable[str]) -> str:
    """A question for the known word that was probably meant, if there is one."""
    close = difflib.get_close_matches(word, [each for each in known if each], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _names(action: argparse.Action) -> list[str]:
    if action.option_strings:
        return [_plain(option) for option in action.option_strings if option.startswith("--")] + [
            action.dest
        ]
    return [POSITIONAL, action.dest, *_metavar(action)]


def _metavar(action: argparse.Action) -> list[str]:
    return [_plain(action.metavar.lower())] if isinstance(action.metavar, str) else []


def _plain(key: str) -> str:
    return key.lstrip("-").replace("-", "_")


def _long(action: argparse.Action) -> str:
    return next(option for option in action.option_strings if option.startswith("--"))


def _said(action: argparse.Action) -> str:
    return _plain(_long(action)) if action.option_strings else action.dest
