"""Beam search over the continuations of one prompt: the likeliest of all beams' go on. Pure: how
likely tokens are comes in, where each beam goes on comes out.

Two ways to end: as transformers' `generate` (utils.py, `_beam_search`), by the best finished ones,
and as OpenAI's Whisper (decoding.py, `BeamSearchDecoder`), by how many have finished. Scores are
float32, as theirs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nsedge.api import EarlyStopping
from nsedge.runtime.decode.sampling.history import Breakers
from nsedge.runtime.decode.sampling.ranking import Draw, Ranking
from nsedge.runtime.decode.sampling.row import SamplerRow


class Said(NamedTuple):
    """The tokens of a beam, the newest first."""

    draw: Draw
    before: Said | None


@dataclass(slots=True, kw_only=True)
class Beam:
    """A text in the making. score: the sum of its tokens' log-probabilities, after all edits; -inf
    where the beam has no text. stops: how far into a stop string it is."""

    row: SamplerRow
    stops: Breakers
    score: float = -math.inf
    said: Said | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A beam and a token that may come next. ends: it finishes the text, which is cut off where it
    `is_last`."""

    beam: int
    token: int
    place: int
    """In the beam's ranking."""
    score: float
    ends: bool
    is_last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """A text that is done. score: what it is compared by, its sum over a power of its length.
    ends: it was finished, not cut off."""

    draws: tuple[Draw, ...]
    score: float
    ends: bool


Scored = tuple[Candidate, float]


@dataclass(frozen=True, slots=True)
class Moves:
    """Where each beam goes on: from the beam `parents[i]`, with the token `tokens[i]`."""

    parents: tuple[int, ...]
    tokens: tuple[int, ...]


class Ending(ABC):
    """Which texts are done, and when the search is."""

    @abstractmethod
    def sort(self, ranked: Many[Candidate], length: int) -> tuple[list[Candidate], list[Scored]]:
        """Of candidates in falling order, those that go on, and those that are done with the
        score that they are compared by; `length` of all is counted with their last token."""

    @abstractmethod
    def keep(self, kept: list[Hypothesis], new: Many[Hypothesis]) -> list[Hypothesis]:
        """Which of the texts that are done are kept, the `new` among them, in falling order of
        their sums."""

    @abstractmethod
    def is_done(self, best: float, length: int, kept: Many[Hypothesis]) -> bool:
        """Whether the search is, where the best of the beams has a sum of `best`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByBest(Ending):
    """Ends where no beam can become better than the worst of the best texts, as many as there are
    beams.

    length_penalty: texts are compared by their sum over length ** length_penalty. early_stopping:
    True ends with as many texts as beams; False supposes that a beam ends now, "never" that it has
    the length that would be best for it.
    """

    beams: int
    max_tokens: int
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False

    def sort(self, ranked: Many[Candidate], length: int) -> tuple[list[Candidate], list[Scored]]:
        """Only of the first, as many as there are beams, texts are done."""
        divisor = length**self.length_penalty
        done = [
            (one, one.score / divisor) for one in ranked[: self.beams] if one.ends or one.is_last
        ]
        return [one for one in ranked if not (one.ends or one.is_last)][: self.beams], done

    def keep(self, kept: list[Hypothesis], new: Many[Hypothesis]) -> list[Hypothesis]:
        """The best, as many as there are beams."""
        return sorted([*kept, *new], key=lambda one: one.score, reverse=True)[: self.beams]

    def is_done(self, best: float, length: int, kept: Many[Hypothesis]) -> bool:
        """As `early_stopping` says."""
        if len(kept) < self.beams:
            return False
        if self.early_stopping is True:
            return True
        hopeful = self.early_stopping == "never" and self.length_penalty > 0.0
        reached = self.max_tokens if hopeful else length
        return bool(best <= kept[-1].score * float(reached) ** self.length_penalty)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByCount(Ending):
    """Ends with `enough` texts; they are compared by their mean, their end not counted in length.
    Where the last token comes before, beams make up as many texts as there are beams."""

    beams: int
    enough: int

    def sort(self, ranked: Many[Candidate], length: int) -> tuple[list[Candidate], list[Scored]]:
        """Of those before the last that goes on, each that ends is done."""
        live: list[Candidate] = []
        done: list[Scored] = []
        for one in ranked:
            if one.ends:
                done.append((one, one.score / max(1, length - 1)))
            elif len(live) < self.beams:
                live.append(one)
            if len(live) == self.beams:
                break
        if ranked and ranked[0].is_last:
            done += [(one, one.score / length) for one in live]
            live = []
        return live, done

    def keep(self, kept: list[Hypothesis], new: Many[Hypothesis]) -> list[Hypothesis]:
        """The first ones."""
        kept = kept.copy()
        for one in new:
            if len(kept) < (self.enough if one.ends else self.beams):
                kept.append(one)
        return kept

    def is_done(self, best: float, length: int, kept: Many[Hypothesis]) -> bool:
        """Where there are enough."""
        return len(kept) >= self.enough


class BeamSearch:
    """The beams of one request."""

    def __init__(
        self,
        ending: Ending,
        *,
        beams: int,
        row: SamplerRow,
        end_ids: Collection[int],
        max_tokens: int,
        stops: Breakers,
    ) -> None:
        """`row` is what sampling knows of the prompt."""
        self._ending = ending
        self._end_ids = frozenset(end_ids)
        self._max_tokens = max_tokens
        self.beams = [Beam(row=row, stops=stops) for _ in range(beams)]
        self.beams[0].score = 0.0
        self._kept: list[Hypothesis] = []
        self.width = beams * max(2, 1 + len(self._end_ids))
        """Of each beam so many tokens are looked at, and of all together, so that enough go on."""

    @property
    def live(self) -> list[int]:
        """The beams that have a text."""
        return [number for number, beam in enumerate(self.beams) if beam.score > -math.inf]

    def advance(
        self, rankings: Mapping[int, Ranking], *, length: int, may_end: bool
    ) -> Moves | None:
        """Choose where to go on, by what comes after each of the `live` beams; None where the
        search is done. `length`: tokens that there are then. may_end: a stop string ends a text."""
        ranked = self._candidates(rankings, is_last=length >= self._max_tokens, may_end=may_end)
        going, done = self._ending.sort(ranked, length)
        new = [self._hypothesis(one, score, rankings[one.beam]) for one, score in done]
        self._kept = self._ending.keep(self._kept, new)
        if not going or self._ending.is_done(going[0].score, length, self._kept):
            return None
        return self._go_on(going, rankings)

    def best(self, count: int) -> list[Hypothesis]:
        """The best of the texts that are done, in falling order."""
        return sorted(self._kept, key=lambda one: one.score, reverse=True)[:count]

    def _candidates(
        self, rankings: Mapping[int, Ranking], *, is_last: bool, may_end: bool
    ) -> list[Candidate]:
        """The best of all beams together, in falling order."""
        if not rankings:
            return []
        beams = np.concatenate([np.full(len(one.ids), beam) for beam, one in rankings.items()])
        places = np.concatenate([np.arange(len(one.ids)) for one in rankings.values()])
        scores = np.concatenate(
            [one.scores + np.float32(self.beams[beam].score) for beam, one in rankings.items()]
        )
        order = np.argsort(-scores, kind="stable")[: self.width]
        found = []
        for beam, place, score in zip(
            beams[order].tolist(), places[order].tolist(), scores[order].tolist(), strict=True
        ):
            token = int(rankings[beam].ids[place])
            ends = token in self._end_ids or (may_end and self.beams[beam].stops.ends_in(token))
            found.append(
                Candidate(
                    beam=beam, token=token, place=place, score=score, ends=ends, is_last=is_last
                )
            )
        return found

    def _hypothesis(self, one: Candidate, score: float, ranking: Ranking) -> Hypothesis:
        said = Said(ranking.draw(one.place), self.beams[one.beam].said)
        return Hypothesis(draws=_draws(said), score=score, ends=one.ends)

    def _go_on(self, going: list[Candidate], rankings: Mapping[int, Ranking]) -> Moves:
        """Give each candidate a beam: the first of a beam's its own, others one that has none. A
        beam that is left goes on by itself, without a text."""
        parents, tokens = list(range(len(self.beams))), [going[0].token] * len(self.beams)
        own = {one.beam: one for one in reversed(going)}
        placed = dict(own)
        free = [number for number in parents if number not in own]
        placed.update(zip(free, (one for one in going if own[one.beam] is not one), strict=False))
        before = self.beams
        self.beams = [Beam(row=beam.row, stops=beam.stops) for beam in before]
        for number, one in placed.items():
            parents[number], tokens[number] = one.beam, one.token
            old, is_own = before[one.beam], number == one.beam
            self.beams[number] = Beam(
                row=old.row if is_own else old.row.forked(),
                stops=old.stops if is_own else old.stops.forked(),
                score=one.score,
                said=Said(rankings[one.beam].draw(one.place), old.said),
            )
        for number, one in placed.items():  # after all that are made of them
            self.beams[number].row.accept(one.token)
            self.beams[number].stops.push(one.token)
        return Moves(tuple(parents), tuple(tokens))


def _draws(said: Said | None) -> tuple[Draw, ...]:
    found = []
    while said is not None:
        found.append(said.draw)
        said = said.before
    return tuple(reversed(found))
