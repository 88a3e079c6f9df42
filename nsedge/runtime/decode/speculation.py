"""Speculation by prompt lookup: what followed the newest tokens before may follow them again.

A guess costs no model of its own, and is checked by reading it like a piece of a prompt, with the
logits of every position (arXiv 2304.04487). Each token is then sampled as ever, from the true
logits and by the row's own generator, for as long as the samples are the guess: distribution and
seed are kept. Guesses are kept count of whether they were checked or not, so that a text that does
not repeat itself costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

NGRAM = 3
"""Tokens that must have stood together before."""
MOST_DRAFTED = 8
"""Tokens guessed at once, at most."""
MOST_LEAPT = 32
"""Tokens read at once that had to come, at most."""
FIRST_RATE = 0.5
"""How often the first guesses are taken to be right."""
LEAST_GAIN = 1.05
"""How much faster than plain decoding a check must promise to be."""
_WEIGHT = 0.125
"""Of the newest guess in the running share of right ones."""
_HIGHEST_RATE = 0.98
_FIRST_COST = 0.35
_COST_WEIGHT = 0.25


class PromptLookup:
    """Guesses how one sequence goes on."""

    def __init__(self, prompt_ids: Iterable[int]) -> None:
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        """Where the newest token stands that followed an n-gram."""
        self._guess: int | None = None
        """Where the token stands that is the next one's guess."""
        self.rate = FIRST_RATE
        """Share of guesses that were right lately."""
        for token in prompt_ids:
            self._append(token)
        self._find()

    def accept(self, token_id: int) -> None:
        """Append a token of the output, and see whether it was guessed."""
        right = self._guess is not None and self._ids[self._guess] == token_id
        if self._guess is not None:
            self.rate += _WEIGHT * (right - self.rate)
        self._append(token_id)
        if right and self._guess is not None:
            self._guess += 1
        else:
            self._find()

    def draft(self, *, room: int, cost: float) -> tuple[int, ...]:
        """The next tokens as guessed, at most `room`; none where that would not be faster.

        `cost` is that of a further token in a check, as a share of a decode step.
        """
        if self._guess is None:
            return ()
        guessed = self._ids[self._guess : self._guess + min(room, MOST_DRAFTED)]
        rate = min(self.rate, _HIGHEST_RATE)
        best, gain = 0, LEAST_GAIN
        for count in range(1, len(guessed) + 1):
            tokens = (1.0 - rate ** (count + 1)) / (1.0 - rate)
            if tokens / (1.0 + cost * count) > gain:
                best, gain = count, tokens / (1.0 + cost * count)
        return tuple(guessed[:best])

    def _append(self, token_id: int) -> None:
        if len(self._ids) >= NGRAM:
            self._after[tuple(self._ids[-NGRAM:])] = len(self._ids)
        self._ids.append(token_id)

    def _find(self) -> None:
        self._guess = self._after.get(tuple(self._ids[-NGRAM:]))


class CheckCost:
    """Learns what a further token in a check costs, as a share of a decode step of one row."""

    def __init__(self) -> None:
        self._decode_s: float | None = None
        self.share = _FIRST_COST

    def decoded(self, seconds: float) -> None:
        """A decode step of one row took so long."""
        before_s = seconds if self._decode_s is None else self._decode_s
        self._decode_s = before_s + _COST_WEIGHT * (seconds - before_s)

    def checked(self, drafted: int, seconds: float) -> None:
        """A check of so many guesses took so long."""
        if self._decode_s:
            share = max(0.0, seconds / self._decode_s - 1.0) / drafted
            self.share += _COST_WEIGHT * (min(share, 1.0) - self.share)
