"""The help of every command, as people get it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

import pytest

from exporters.__main__ import COMMANDS
from exporters.__main__ import command_parser as exporting
from exporters.quantise.schemes import SCHEMES
from nsedge.cli.arguments import command_parser as serving

UNFORMATTED = re.compile(r"%\(|%[sdirf]\b|%%|\{'|<function|<class| object at 0x")
"""What is left of a text that was not filled in, or was filled in with too much."""


def parsers(root: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands, and of theirs."""
    yield root
    for action in root._actions:
        if isinstance(action, argparse._SubParsersAction):
            for parser in action.choices.values():
                yield from parsers(parser)


ALL = {parser.prog: parser for root in (serving(), exporting()) for parser in parsers(root)}


@pytest.mark.parametrize("prog", ALL)
def test_help_is_words(prog: str) -> None:
    parser = ALL[prog]
    text = parser.format_help()
    assert text.startswith(f"usage: {prog}")
    assert not UNFORMATTED.search(text), text
    for action in parser._actions:
        assert all(option in text for option in action.option_strings)


def test_no_command_is_left_out() -> None:
    assert {"nsedge keys add", "nsedge up", "nsedge-export import-gguf"} <= ALL.keys()
    named = {prog.split()[1] for prog in ALL if prog.startswith("nsedge-export ")}
    assert len(named) == len(COMMANDS)


def test_a_per_cent_sign_is_one() -> None:
    text = " ".join(ALL["nsedge-export model"].format_help().split())
    for scheme in SCHEMES.values():
        assert f"{scheme.name}: {scheme.about}" in text


@pytest.mark.parametrize("text", ["6 %(default)s", "6 %d", "6 {'option_strings': []}", "6 %%"])
def test_what_was_not_filled_in_is_seen(text: str) -> None:
    assert UNFORMATTED.search(text)
