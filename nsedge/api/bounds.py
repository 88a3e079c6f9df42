"""Bounds of parameters, and how a value beyond them is refused."""

from __future__ import annotations

from nsedge.errors import InvalidParameter

MAX_PROMPT_CHARS = 16_384
"""Of the prompt of a transcript, of which a model reads the last tokens, and of a caption."""


def within(
    name: str,
    value: float | None,
    low: float,
    high: float,
    *,
    exclusive_low: bool = False,
    param: str | None = None,
) -> None:
    """Raises InvalidParameter where `value`, if any, is not between `low` and `high`."""
    if value is None:
        return
    above = value > low if exclusive_low else value >= low
    if not (above and value <= high):  # false for NaN, too
        bounds = f"{'above' if exclusive_low else 'at least'} {low} and at most {high}"
        raise InvalidParameter(f"{name} must be {bounds}, not {value}", param=param or name)
