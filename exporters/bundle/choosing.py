"""Which of several candidates is taken, and what is told of those that are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from exporters.errors import ExportError, Refused
from exporters.progress import Progress

C = TypeVar("C")


def first_without_reason(
    candidates: Sequence[C],
    reason_against: Callable[[C], str | None],
    *,
    name: Callable[[C], str],
    notes: list[str],
    progress: Progress,
) -> C:
    """The first of `candidates` that there is no reason against, else the last; `notes` hear what
    was passed over. A candidate that is refused has that for a reason."""
    *others, last = candidates
    for each in others:
        try:
            reason = reason_against(each)
        except Refused as error:
            reason = str(error)
        if not reason:
            return each
        notes.append(f"{name(each)} passed over: {reason}")
        progress.note(notes[-1])
    return last


def refuse_failures(failures: Sequence[tuple[str, str]]) -> None:
    """Refuse to package variants that are too far from fp32.

    Raises:
        ExportError: naming each, and why.
    """
    if failures:
        told = "; ".join(f"{variant}: {reason}" for variant, reason in failures)
        raise ExportError(f"not packaged: {told}; --threshold sets other limits")
