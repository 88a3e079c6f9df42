"""The steps in order, over all rows at once.

    mask, rule, logit bias, allowed tokens,
    penalties, DRY, n-grams and bad words,
    ban of the end                                  edits: each changes logits
    the greatest, for greedy rows                   or
    temperature, top-n-sigma, top-k, typical-p,
    top-p, min-p, XTC                               filters: each drops candidates
    adaptive-p, or mirostat in place of filters     steps that steer by what was drawn
    draw

Each step is a no-op for the rows that do not need it. A row's result depends on that row and its
generator alone, never on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Many

import numpy as np

from nsedge.runtime.decode.sampling.candidates import Candidates, block_sums, weights_of
from nsedge.runtime.decode.sampling.chain import TEMPERATURE, Chain
from nsedge.runtime.decode.sampling.edits import LASTING, Edit, EndBan, Mask
from nsedge.runtime.decode.sampling.logits import Ids, Logits, Reals
from nsedge.runtime.decode.sampling.ranking import Draw, Likelihoods, Ranking, ranked
from nsedge.runtime.decode.sampling.row import SamplerRow
from nsedge.runtime.decode.sampling.whole import draw_from, draw_whole

MASK = Mask()
WIDEN = 16
"""How many times more candidates are looked at where the first did not settle a row."""


class Sampler:
    """Chooses a token for every row of a batch."""

    def __init__(self, *, end_ids: Iterable[int]) -> None:
        self._end_ban = EndBan(end_ids)

    def sample(self, logits: Logits, rows: Many[SamplerRow]) -> list[Draw | None]:
        """A token a row; None where its logits are no numbers, or nothing but zeros, which is what
        is left of a row that overflowed before a norm, or where no token may come: then the row is
        `barren`.

        Args:
            logits: [B, V]; may be changed.
            rows: the B rows' states; their generators advance by one draw where they draw.
        """
        told = _told(logits, rows, ruled=False)
        spoilt = self._edit(logits, rows)
        told |= _told(logits, rows, ruled=True)
        best, values = logits.best(more=any(row.width for row in rows))
        picks: list[int | None] = best.tolist()
        for i in np.flatnonzero(~np.isfinite(values)).tolist():
            rows[i].barren = values[i] == -np.inf and i not in spoilt and rows[i].is_ruled
            spoilt.append(i)
        for i in spoilt + logits.blank(np.flatnonzero(values == 0.0).tolist()):
            picks[i] = None
        groups: dict[tuple[int, bool, Chain], list[int]] = {}
        for i, row in enumerate(rows):
            if not row.greedy and picks[i] is not None:
                groups.setdefault((row.width, row.is_ordered, row.chain), []).append(i)
        for (width, *_), members in groups.items():
            for i, drawn in zip(members, _draw(logits, members, rows, width), strict=True):
                picks[i] = drawn
        return [
            None if pick is None else told[i].of(pick) if i in told else Draw(pick)
            for i, pick in enumerate(picks)
        ]

    def rank(self, logits: Logits, rows: Many[SamplerRow], count: int) -> list[Ranking | None]:
        """The `count` likeliest tokens of each row [V]; None where its logits are no numbers, or
        nothing but zeros. A row of which no token may come is `barren`."""
        return ranked(logits, rows, count, edit=self._edit)

    def _edit(self, logits: Logits, rows: Many[SamplerRow]) -> list[int]:
        """Change the rows that need it; those of them that were nothing but zeros."""
        ruled = [i for i, row in enumerate(rows) if row.is_ruled]
        if not ruled:
            return []
        blank = logits.blank(ruled)
        steps: list[tuple[Edit, list[int]]] = [
            (MASK, [i for i in ruled if MASK.needed(rows[i])]),
            *((edit, [i for i in ruled if rows[i].edits[n]]) for n, edit in enumerate(LASTING)),
            (self._end_ban, [i for i in ruled if self._end_ban.needed(rows[i])]),
        ]
        for edit, places in steps:
            if places:
                array, at = logits.edit(places)
                edit.apply(array, at, [rows[i] for i in places])
        return blank


def _told(logits: Logits, rows: Many[SamplerRow], *, ruled: bool) -> dict[int, Likelihoods]:
    """What logits say now of the rows, with a rule or without, whose log-probabilities are told."""
    return {
        i: Likelihoods(logits, i, row.logprobs)
        for i, row in enumerate(rows)
        if row.logprobs is not None and (row.rule is not None) is ruled
    }


def _draw(logits: Logits, members: Many[int], rows: Many[SamplerRow], width: int) -> list[int]:
    """Draw a token for each of the rows that are `members`, all of one order."""
    own = [rows[i] for i in members]
    draws = np.array([row.draw() for row in own])
    if width:
        ids: list[int] = _draw_filtered(logits, members, own, draws, width).tolist()
        return ids
    room = np.empty(logits.vocabulary, np.float32)
    return [
        draw_whole(values, row, draw, room=room)
        for values, row, draw in zip(map(logits.row, members), own, draws, strict=True)
    ]


def _draw_filtered(
    logits: Logits, members: Many[int], rows: Many[SamplerRow], draws: Reals, width: int
) -> Ids:
    """Draw from the `width` best candidates; for rows that these do not settle, from more: [R]."""
    steps = rows[0].chain.steps
    begun = steps[0] is TEMPERATURE
    temperatures = TEMPERATURE.first(logits, members, rows) if begun else np.ones(len(rows))
    ordered = rows[0].is_ordered
    best = Candidates.of(logits, members, temperatures, width, ordered=ordered)
    for number, step in enumerate(steps[begun:], begun):
        if places := [n for n, row in enumerate(rows) if row.needs[number]]:
            step.apply(best, places, [rows[n] for n in places])
    drawn = best.draw(draws)
    for n in [n for n, row in enumerate(rows) if row.is_open and not best.unclear[n]]:
        weights = weights_of(best.left(n), float(best.temperatures[n]))
        drawn.ids[n], drawn.certain[n] = draw_from(weights, block_sums(weights), draws[n]), True
    for n, shares in best.told.items():
        if drawn.certain[n] and (memory := rows[n].memory) is not None:
            memory.learn(float(shares[drawn.places[n]]))
    again = np.flatnonzero(~drawn.certain).tolist()
    if again:
        left, own = [members[n] for n in again], [rows[n] for n in again]
        drawn.ids[again] = _draw_filtered(logits, left, own, draws[again], width * WIDEN)
    return drawn.ids
