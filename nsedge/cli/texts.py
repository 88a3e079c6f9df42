"""Texts of a command: its words, or the lines of standard input."""

from __future__ import annotations

import sys

from nsedge.errors import EmptyPrompt, InvalidParameter
from nsedge.process import console


def read_texts(words: list[str]) -> list[str]:
    """The words that were given, or else the lines of standard input that hold anything.

    Raises:
        EmptyPrompt: there are none.
        InvalidParameter: standard input is not text.
    """
    if words and words != ["-"]:
        return words
    if sys.stdin.isatty() and not words:
        raise EmptyPrompt("no text: give some after the model's name, or pipe lines in")
    try:
        lines = console.text_of(sys.stdin.read()).splitlines()
    except ValueError as error:
        raise InvalidParameter(f"standard input is not text: {error}") from error
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise EmptyPrompt("standard input holds no text")
    return texts
