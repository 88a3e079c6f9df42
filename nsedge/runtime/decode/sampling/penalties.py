"""Formulas over the logits of tokens that a row has seen already."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from nsedge.runtime.decode.sampling.logits import Floats, Ids
from nsedge.runtime.decode.sampling.params import SamplingParams


class SeenTokens:
    """The distinct tokens of a prompt and its output, with how often the output has each."""

    def __init__(self, prompt_ids: Iterable[int]) -> None:
        ids = np.unique(np.fromiter(prompt_ids, np.int64))
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

    @property
    def ids(self) -> Ids:
        """int64 [n], each once."""
        return self._ids[: len(self._place)]

    @property
    def counts(self) -> Floats:
        """float32 [n]: how often the output has `ids[i]`; 0 for those of the prompt only."""
        return self._counts[: len(self._place)]


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
    return any(penalty.value(params) != penalty.neutral for penalty in PENALTIES)
