"""What sampling needs to know of one sequence."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.decode.sampling.chain import chain_of
from nsedge.runtime.decode.sampling.edits import LASTING
from nsedge.runtime.decode.sampling.history import (
    BadWords,
    Ban,
    NoRepeat,
    Repeats,
    TokenText,
)
from nsedge.runtime.decode.sampling.logits import Flags, Floats, Ids
from nsedge.runtime.decode.sampling.params import SamplingParams
from nsedge.runtime.decode.sampling.penalties import SeenTokens, is_penalised
from nsedge.runtime.decode.sampling.steered import memory_of
from nsedge.runtime.decode.sampling.view import Rule

TokenMask = NDArray[np.uint32]
"""The tokens that may come, uint32 [ceil(V / 32)]: bit t % 32 of word t // 32 is for token t. What
it does not reach may not come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """Which tokens may never come, and which end the text besides the model's own.

    `allowed` is None where all may come; `bad_words` are the tokens of each.
    """

    allowed: tuple[int, ...] | None = None
    banned: tuple[int, ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()
    ends: tuple[int, ...] = ()

    def barred(self, vocabulary: int) -> Flags | None:
        """The tokens that never come [V]; None where all may."""
        if self.allowed is None and not self.banned:
            return None
        flags = np.full(vocabulary, self.allowed is not None)
        flags[list(self.allowed or ())] = False
        flags[list(self.banned)] = True
        return flags


def _no_text(token_id: int) -> bytes:
    return b""


class SamplerRow:
    """Parameters, what was seen, and a generator (PCG64)."""

    def __init__(
        self,
        params: SamplingParams,
        *,
        seed: int | None = None,
        logit_bias: dict[int, float] | None = None,
        prompt_ids: Many[int] = (),
        logprobs: int | None = None,
        rules: TokenRules | None = None,
        vocabulary: int = 0,
        text_of: TokenText = _no_text,
        rule: Rule | None = None,
    ) -> None:
        """`logprobs`: tell each token's log-probability, and those of so many of the likeliest.
        `rules` are over a `vocabulary` of so many tokens. `text_of` a token, where repetitions
        break at some texts. Where there is a `rule`, log-probabilities are of what it leaves.
        """
        rules = rules or TokenRules()
        self.params = params
        self.greedy = params.greedy
        self.chain = chain_of(params.order)
        self.width = 0 if params.greedy else self.chain.width(params)
        """Candidates to look at first; 0 where no filter needs any."""
        self.is_open = self.chain.is_open(params)
        """Whether any token may be left, so that it is drawn from all of them, in order of id."""
        self.is_ordered = self.chain.is_ordered(params)
        self.needs = self.chain.needed(params)
        """Which steps of the chain would change something."""
        self.early = self.chain.early
        self.logprobs = logprobs
        last_n = params.penalty_last_n
        self.seen = SeenTokens(prompt_ids, last_n=last_n) if is_penalised(params) else None
        dry = params.dry
        self.repeats = None if dry is None else Repeats(dry, prompt_ids, text_of)
        self.bans = _bans(params, rules, prompt_ids)
        self.excluding = _excluding(params, rules)
        """The fields of its request by which tokens may not come, however likely they are."""
        self.memory = memory_of(params)
        self.rule = rule
        self.drawn: list[int] = []
        """The tokens so far, where a rule asks."""
        self.barred = rules.barred(vocabulary)
        self.end_ids: Ids = np.array(rules.ends, np.int64)
        self.mask: TokenMask | None = None
        """The tokens that may come next; None where all may."""
        self.ban_end = False
        """Whether the next token may not be an end of sequence."""
        bias = logit_bias or {}
        self.bias_ids: Ids = np.fromiter(bias.keys(), np.int64, len(bias))
        self.bias: Floats = np.fromiter(bias.values(), np.float32, len(bias))
        self.edits = tuple(edit.needed(self) for edit in LASTING)
        """Which of the lasting edits it needs."""
        self.edited = any(self.edits)
        """Whether any."""
        self.barren = False
        """Whether no token may come next, though the model's logits are numbers."""
        self._seed = seed
        self.chance = 1.0
        """Of a step that leaves something to chance."""

    @functools.cached_property
    def generator(self) -> np.random.Generator:
        """Made once it is drawn from: greedy rows need none, nor its libraries in memory."""
        return np.random.Generator(np.random.PCG64(self._seed))

    @property
    def is_ruled(self) -> bool:
        """Whether any step changes its logits now."""
        return self.edited or self.ban_end or self.mask is not None

    def draw(self) -> float:
        """The number, 0 to 1, that its next token is drawn by."""
        drawn = self.generator.random()
        if self.params.xtc is not None:
            self.chance = self.generator.random()
        return drawn

    def forked(self) -> SamplerRow:
        """The same for a text that goes on in another way, of what is not drawn and has no DRY."""
        fork = copy.copy(self)
        fork.seen = None if self.seen is None else self.seen.forked()
        fork.bans = tuple(ban.forked() for ban in self.bans)
        fork.drawn = self.drawn.copy()
        return fork

    def accept(self, token_id: int) -> None:
        """Note the token that was chosen."""
        if self.seen is not None:
            self.seen.add(token_id)
        if self.repeats is not None:
            self.repeats.add(token_id)
        for ban in self.bans:
            ban.add(token_id)
        if self.rule is not None:
            self.drawn.append(token_id)


def _excluding(params: SamplingParams, rules: TokenRules) -> tuple[str, ...]:
    fields = {
        "allowed_token_ids": rules.allowed is not None,
        "banned_token_ids": rules.banned,
        "bad_words": rules.bad_words,
        "no_repeat_ngram_size": params.no_repeat_ngram_size,
    }
    return tuple(name for name, value in fields.items() if value)


def _bans(params: SamplingParams, rules: TokenRules, prompt_ids: Many[int]) -> tuple[Ban, ...]:
    bans: list[Ban] = []
    if params.no_repeat_ngram_size:
        bans.append(NoRepeat(params.no_repeat_ngram_size, prompt_ids))
    if rules.bad_words:
        bans.append(BadWords(rules.bad_words))
    return tuple(bans)
