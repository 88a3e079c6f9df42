"""Who may be in memory: amounts in, victims out. No clock, no models; the keeper acts on it.

A model leaves only where nobody uses it and nobody pinned it, and never for a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsedge.runtime.machine.amounts import Amount, Room


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A resident model, as admission sees it."""

    name: str
    amount: Amount
    in_use: bool
    pinned: bool
    guessed: bool
    """Loaded before anybody asked, and nobody has since."""
    last_used_s: float


@dataclass(frozen=True, slots=True)
class Fits:
    """There is room, once `victims` have left."""

    victims: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FitsLater:
    """There will be room when these, now in use, have left too."""

    victims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NeverFits:
    """Not even if all that may leave had left; `largest` is the room there would be."""

    largest: Room


Verdict = Fits | FitsLater | NeverFits


def decide(need: Amount, room: Room, holders: Sequence[Holder]) -> Verdict:
    """How `need` comes to fit: first without anybody leaving, then without guesses nobody used,
    then without the longest unused, then without those in use."""
    if room.holds(need):
        return Fits()
    leaving = sorted(
        (one for one in holders if not one.pinned),
        key=lambda one: (one.in_use, not one.guessed, one.last_used_s),
    )
    chosen: list[Holder] = []
    grown = room
    for one in leaving:
        chosen.append(one)
        grown = grown.grown(one.amount)
        if grown.holds(need):
            kept = _spared(need, room, chosen)
            victims = tuple(one.name for one in kept)
            return FitsLater(victims) if any(one.in_use for one in kept) else Fits(victims)
    return NeverFits(grown)


def _spared(need: Amount, room: Room, chosen: list[Holder]) -> list[Holder]:
    """`chosen` without those that need not leave after all, the worthiest spared first."""
    kept = list(chosen)
    for one in reversed(chosen):
        others = [other for other in kept if other is not one]
        grown = room
        for other in others:
            grown = grown.grown(other.amount)
        if grown.holds(need):
            kept = others
    return kept
