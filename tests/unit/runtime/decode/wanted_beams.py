"""Beam searches in plain Python, and a rig whose model is uncertain."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from nsedge.api import (
    Delta,
    EarlyStopping,
    is_terminal,
)
from nsedge.runtime.decode.beams import ByBest
from nsedge.runtime.decode.sampling.logits import Floats
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.row import SamplerRow, TokenRules
from tests.unit.rig import END, VOCAB, Rig

PROMPT = tuple(1 + n * 7 % (VOCAB - 1) for n in range(11))
WORD = tuple[int, ...]


def spread(tokens: list[int]) -> Floats:
    """What the model says after `tokens`: logits that are a function of all of them."""
    chance = np.random.default_rng(zlib.crc32(bytes(tokens)))
    return chance.normal(0.0, 2.0, VOCAB).astype(np.float32)


def uncertain(rig: Rig) -> Rig:
    rig.model.spread = spread
    return rig


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A search, as plain Python has it: lists of (sum, tokens)."""

    prompt: WORD
    max_tokens: int
    beams: int
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False
    min_tokens: int = 0
    repetition_penalty: float = 1.0
    banned: WORD = ()

    def best(self) -> list[WORD]:
        going: list[tuple[float, WORD]] = [(0.0, ())]
        kept: list[tuple[float, WORD]] = []
        for length in range(1, self.max_tokens + 1):
            found = sorted(
                ((s + p, (*said, t)) for s, said in going for t, p in enumerate(self.after(said))),
                key=lambda one: -one[0],
            )[: 2 * self.beams]
            done = [one for one in found[: self.beams] if self.ends(one[1])]
            kept += [(s / length**self.length_penalty, said) for s, said in done]
            kept = sorted(kept, key=lambda one: -one[0])[: self.beams]
            going = [one for one in found if not self.ends(one[1])][: self.beams]
            if not going or self.is_done(going[0][0], length, kept):
                break
        return [said for _, said in kept]

    def after(self, said: WORD) -> list[float]:
        logits = spread([*self.prompt, *said]).astype(np.float64)
        chances = logits - np.log(np.exp(logits).sum())
        for token in {*self.prompt, *said}:
            chances[token] *= self.repetition_penalty
        chances[list(self.banned)] = -np.inf
        if len(said) + 1 < self.min_tokens:
            chances[END] = -np.inf
        return chances.tolist()  # type: ignore[no-any-return]

    def ends(self, said: WORD) -> bool:
        return said[-1] == END or len(said) == self.max_tokens

    def is_done(self, best: float, length: int, kept: list[tuple[float, WORD]]) -> bool:
        if len(kept) < self.beams:
            return False
        if self.early_stopping is True:
            return True
        hopeful = self.early_stopping == "never" and self.length_penalty > 0
        return best / (self.max_tokens if hopeful else length) ** self.length_penalty <= kept[-1][0]

    def ending(self) -> ByBest:
        return ByBest(
            beams=self.beams,
            max_tokens=self.max_tokens,
            length_penalty=self.length_penalty,
            early_stopping=self.early_stopping,
        )

    def row(self) -> SamplerRow:
        params = SamplingParams(temperature=0.0, repetition_penalty=self.repetition_penalty)
        return SamplerRow(
            params,
            prompt_ids=self.prompt,
            rules=TokenRules(banned=self.banned),
            vocabulary=VOCAB,
        )

    def ask(self, rig: Rig, name: str, n: int = 1) -> None:
        rig.submit(
            name,
            self.prompt,
            self.max_tokens,
            min_tokens=self.min_tokens,
            beams=self.beams,
            ending=self.ending(),
            row=self.row(),
            n=n,
        )


def texts_of(rig: Rig, name: str, n: int = 1) -> list[WORD]:
    """The tokens of each choice, which come as one piece, before the one end of all."""
    events = rig.events[name]
    assert [is_terminal(event) for event in events].count(True) == 1
    assert is_terminal(events[-1])
    deltas = [event for event in events if isinstance(event, Delta)]
    assert len({delta.choice for delta in deltas}) == len(deltas)
    return [
        tuple(t for delta in deltas if delta.choice == choice for t in delta.token_ids)
        for choice in range(n)
    ]


def without_end(texts: list[WORD]) -> list[WORD]:
    return [text[:-1] if text and text[-1] == END else text for text in texts]
