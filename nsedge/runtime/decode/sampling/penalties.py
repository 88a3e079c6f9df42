"""Formulas over the logits of tokens that a row has seen already."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterable
from typing import ClassVar, NamedTuple

import numpy as np

from nsedge.runtime.decode.sampling.logits import Floats, Ids
from nsedge.runtime.decode.sampling.params import SamplingParams


class SeenTokens:
    """The distinct tokens of a prompt and its output, with how often the output has each; of the
    newest `last_n` tokens alone, where that is not negative."""

    def __init__(self, prompt_ids: Iterable[int], *, last_n: int = -1) -> None:
        ids = np.fromiter(prompt_ids, np.int64)
        if last_n >= 0:
            ids = ids[max(0, len(ids) - last_n) :]
        self._window = _Window(ids.tolist(), last_n) if last_n >= 0 else None
        ids = np.unique(ids)
        self._place = {int(token): i for i, token in enumerate(ids)}
        self._ids = ids
        self._counts: Floats = np.zeros(len(ids), np.float32)

    def add(self, token_id: int) -> None:
        """Count a token of the output."""
        place = self._place.get(token_id)
        if place is None:
            place = self._place[token_id] = len(self._place)
            if place == len(self._ids):
                self._ids = np.resize(self._ids, max(16, 2 * place))
                self._counts = np.concatenate(
                    [self._counts, np.zeros(len(self._ids) - place, np.float32)]
                )
            self._ids[place] = token_id
            self._counts[place] = 0.0
        self._counts[place] += 1.0
        if self._window is not None and (left := self._window.add(token_id)) is not None:
            self._leave(left)

    def forked(self) -> SeenTokens:
        """The same for a text that goes on in another way."""
        fork = copy.copy(self)
        fork._place = self._place.copy()
        fork._ids, fork._counts = self._ids.copy(), self._counts.copy()
        fork._window = None if self._window is None else self._window.forked()
        return fork

    def _leave(self, left: _Left) -> None:
        """Forget the token that fell out of the window: it, or one time that the output had it."""
        place = self._place[left.token]
        self._counts[place] -= left.of_output
        if left.last:
            del self._place[left.token]
            end = len(self._place)
            if place != end:
                moved = int(self._ids[end])
                self._ids[place], self._counts[place] = moved, self._counts[end]
                self._place[moved] = place

    @property
    def ids(self) -> Ids:
        """int64 [n], each once."""
        return self._ids[: len(self._place)]

    @property
    def counts(self) -> Floats:
        """float32 [n]: how often the output has `ids[i]`; 0 for those of the prompt only."""
        return self._counts[: len(self._place)]


class _Left(NamedTuple):
    """A token that fell out of a window: whether it was one of the output, and the last of its
    kind."""

    token: int
    of_output: bool
    last: bool


class _Window:
    """The newest tokens of prompt and output."""

    def __init__(self, prompt_ids: list[int], size: int) -> None:
        self._size = size
        self._tokens = deque((token, False) for token in prompt_ids)
        self._times = Counter(prompt_ids)

    def forked(self) -> _Window:
        fork = copy.copy(self)
        fork._tokens, fork._times = self._tokens.copy(), self._times.copy()
        return fork

    def add(self, token_id: int) -> _Left | None:
        """Append a token of the output; the one that leaves for it."""
        self._tokens.append((token_id, True))
        self._times[token_id] += 1
        if len(self._tokens) <= self._size:
            return None
        token, of_output = self._tokens.popleft()
        self._times[token] -= 1
        last = not self._times[token]
        if last:
            del self._times[token]
        return _Left(token, of_output, last)


class Penalty(ABC):
    """One formula, which changes nothing where its parameter is `neutral`."""

    neutral: ClassVar[float]

    @abstractmethod
    def value(self, params: SamplingParams) -> float:
        """The row's parameter."""

    @abstractmethod
    def apply(self, x: Floats, counts: Floats, value: Floats) -> Floats:
        """The logits `x` of seen tokens anew; all are float32 [n], of the tokens of all rows.

        counts: how often the row's output has the token. value: the row's parameter.
        """


class Repetition(Penalty):
    """Divides positive logits and multiplies negative ones (arXiv 1909.05858); the prompt's tokens
    count as well."""

    neutral = 1.0

    def value(self, params: SamplingParams) -> float:
        """The row's parameter."""
        return params.repetition_penalty

    def apply(self, x: Floats, counts: Floats, value: Floats) -> Floats:
        """x / value or x * value."""
        return np.where(x > 0, x / value, x * value)


class Presence(Penalty):
    """Subtracts once from what the output has (OpenAI's formula)."""

    neutral = 0.0

    def value(self, params: SamplingParams) -> float:
        """The row's parameter."""
        return params.presence_penalty

    def apply(self, x: Floats, counts: Floats, value: Floats) -> Floats:
        """x - value, where there is a count."""
        return np.asarray(x - value * (counts > 0))


class Frequency(Penalty):
    """Subtracts for each time that the output has it (OpenAI's formula)."""

    neutral = 0.0

    def value(self, params: SamplingParams) -> float:
        """The row's parameter."""
        return params.frequency_penalty

    def apply(self, x: Floats, counts: Floats, value: Floats) -> Floats:
        """x - value * counts."""
        return np.asarray(x - value * counts)


PENALTIES: tuple[Penalty, ...] = (Repetition(), Presence(), Frequency())
"""In the order that they are applied in."""


def is_penalised(params: SamplingParams) -> bool:
    """Whether any formula changes something, so that seen tokens have to be known."""
    return params.penalty_last_n != 0 and any(
        penalty.value(params) != penalty.neutral for penalty in PENALTIES
    )
