"""Who gives rows to a sequence that goes before them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from nsedge.api import Priority
from nsedge.runtime.decode.sequence import Sequence
from nsedge.runtime.decode.waiting import place_s


def victims_of(
    sequence: Sequence, holding: Iterable[Sequence], *, free: int, kept: Collection[Sequence]
) -> list[Sequence]:
    """The batch sequences, of those that hold rows, that give theirs to a waiting interactive one:
    the last in order, none that goes before it and none that is `kept`. As many as it lacks beside
    the `free` rows; none where there are not so many. Of beams the first stands for all."""
    if sequence.priority is not Priority.INTERACTIVE:
        return []
    victims: list[Sequence] = []
    lacking = len(sequence.together) - free
    for victim in sorted(holding, key=place_s, reverse=True):
        if lacking <= 0 or place_s(victim) < place_s(sequence):
            break
        if victim.priority is Priority.BATCH and victim.leads and victim not in kept:
            victims.append(victim)
            lacking -= len(victim.together)
    return [] if lacking > 0 else victims
