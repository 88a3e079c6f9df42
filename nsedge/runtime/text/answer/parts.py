"""The parts of an answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Said:
    """Text."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """Text that the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of call number `index`: its beginning, with id and name, or more of its arguments."""

    index: int
    arguments: str
    id: str | None = None
    name: str | None = None


Part = Said | Thought | CallPiece


def joined(parts: Iterable[Part]) -> list[Part]:
    """The same with neighbours of one kind put together; a call's beginning stays by itself."""
    whole: list[Part] = []
    for part in parts:
        match (whole[-1] if whole else None, part):
            case (Said(before), Said(text)):
                whole[-1] = Said(before + text)
            case (Thought(before), Thought(text)):
                whole[-1] = Thought(before + text)
            case (CallPiece(id=None, arguments=before) as last, CallPiece(id=None)) if (
                last.index == part.index
            ):
                whole[-1] = replace(last, arguments=before + part.arguments)
            case _:
                whole.append(part)
    return whole
