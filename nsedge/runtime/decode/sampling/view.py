"""A row, as steps see it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence as Many
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nsedge.api import SamplerStep
from nsedge.runtime.decode.sampling.history import Ban, Repeats
from nsedge.runtime.decode.sampling.logits import Flags, Floats, Ids
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.penalties import SeenTokens


class Memory(ABC):
    """What a step remembers of the tokens that a row has drawn."""

    @abstractmethod
    def learn(self, share: float) -> None:
        """A token was drawn; `share` is its probability, as the step told it."""


class Rule(Protocol):
    """What a model's own form of text asks of the next token."""

    def apply(self, logits: Floats, drawn: Many[int]) -> None:
        """Change a row of logits [V]; `drawn` are the tokens so far."""


class Row(Protocol):
    """What steps need; `SamplerRow` says what it is."""

    ban_end: bool

    @property
    def params(self) -> SamplingParams:
        """How it is sampled."""

    @property
    def early(self) -> frozenset[SamplerStep]:
        """The steps with a place in the order that edit the logits of the whole vocabulary."""

    @property
    def mask(self) -> NDArray[np.uint32] | None:
        """The tokens that may come next."""

    @property
    def bias_ids(self) -> Ids:
        """The tokens that have a bias."""

    @property
    def bias(self) -> Floats:
        """The biases."""

    @property
    def seen(self) -> SeenTokens | None:
        """What penalties look at."""

    @property
    def repeats(self) -> Repeats | None:
        """What DRY looks at."""

    @property
    def barred(self) -> Flags | None:
        """The tokens that never come [V]."""

    @property
    def rule(self) -> Rule | None:
        """What its model's own form asks."""

    @property
    def drawn(self) -> Many[int]:
        """The tokens so far, where a rule asks."""

    @property
    def bans(self) -> Many[Ban]:
        """What forbids tokens by those before them."""

    @property
    def end_ids(self) -> Ids:
        """Tokens that end it, besides the model's own."""

    @property
    def chance(self) -> float:
        """From 0 to 1, of its own generator, for a step that leaves something to chance."""

    @property
    def memory(self) -> Memory | None:
        """What a step remembers from token to token."""
