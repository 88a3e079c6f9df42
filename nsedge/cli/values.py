"""Values of flags: from words to what they mean, or a line that says what was wanted."""

from __future__ import annotations

import argparse

from nsedge.api import Activation, Aggregation, Priority
from nsedge.api.models import keep_alive_of
from nsedge.errors import InvalidParameter


def whole(text: str) -> int:
    """A whole number.

    Raises:
        argparse.ArgumentTypeError: as everything here does, with what `text` is not.
    """
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def priority(text: str) -> Priority:
    """A class of requests."""
    try:
        return Priority(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(Priority)}") from None


def activation(text: str) -> Activation:
    """How scores are made."""
    try:
        return Activation(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(Activation)}") from None


def aggregation(text: str) -> Aggregation:
    """How labels of tokens become spans."""
    try:
        return Aggregation(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(Aggregation)}") from None


def keep_alive(text: str) -> float:
    """Seconds, which may be infinite: `300`, `5m`, `now`, `forever`."""
    try:
        return keep_alive_of(text)
    except InvalidParameter as error:
        raise argparse.ArgumentTypeError(error.message) from error


def interval(text: str) -> float:
    """Seconds between two looks."""
    seconds = number(text)
    if not 0.1 <= seconds <= 3600.0:  # false for NaN, too
        raise argparse.ArgumentTypeError(f"{text} is not 0.1 to 3600 seconds")
    return seconds


def size(text: str) -> tuple[int, int]:
    """Width and height in pixels: `512x768`."""
    width, cross, height = text.lower().partition("x")
    if not cross or not all(side.isascii() and side.isdigit() for side in (width, height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512x768")
    return int(width), int(height)


def bias(text: str) -> tuple[int, float]:
    """A token and what is added to its logit: `ID=N`."""
    token, _, added = text.partition("=")
    try:
        return int(token), float(added)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not ID=N") from None
