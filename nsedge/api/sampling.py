"""How tokens are chosen and when an answer ends, and the bounds of each parameter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from nsedge.api.bounds import within
from nsedge.api.steps import (
    MAX_LAST_N,
    WHOLE_CONTEXT,
    AdaptiveP,
    Dry,
    DynamicTemperature,
    Mirostat,
    SamplerStep,
    Xtc,
    check_order,
)
from nsedge.errors import InvalidParameter

MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 256
MAX_LOGIT_BIAS = 1024
MAX_TOKEN_LIST = 65_536
MAX_STOP_TOKENS = 256
MAX_BAD_WORDS = 256
MAX_BAD_WORD_LENGTH = 256
MAX_SEED = 2**64 - 1
MAX_LOGPROBS = 100
MAX_REPETITION_PENALTY = 10.0
MAX_CHOICES = 128

MAX_BEAMS = 64
EarlyStopping = bool | Literal["never"]
"""When a beam search ends, as transformers has it."""

BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 10.0),
    "top_k": (0, 2**31 - 1),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "seed": (0, MAX_SEED),
    "n": (1, MAX_CHOICES),
    "max_tokens": (1, 2**31 - 1),
    "min_tokens": (0, 2**31 - 1),
    "typical_p": (0.0, 1.0),
    "top_n_sigma": (-1.0, 100.0),
    "min_keep": (0, 2**31 - 1),
    "penalty_last_n": (WHOLE_CONTEXT, MAX_LAST_N),
    "no_repeat_ngram_size": (0, 2**31 - 1),
    "beams": (1, MAX_BEAMS),
    "length_penalty": (-10.0, 10.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to choose tokens and when to end. `None`: the bundle's default, then the neutral one.

    Order of application: logit_bias, repetition, presence and frequency penalties, dry, and what
    may not come; then temperature, top_n_sigma, top_k, typical_p, top_p, min_p, xtc and adaptive_p,
    each on what the one before left. docs/sampling.md has the formulas.

    - temperature: 0 is greedy; at most 10. dynamic_temperature has it follow the entropy.
    - top_k: candidates kept; 0 is off.
    - top_p: smallest nucleus whose probability reaches it (arXiv 1904.09751); 0 is the likeliest
      token alone, 1 is off.
    - min_p: tokens below this share of the best token's probability are dropped; 0 is off.
    - typical_p: the tokens nearest to the expected surprise that together reach it
      (arXiv 2202.00666); 1 is off.
    - top_n_sigma: tokens are dropped whose logit is so many standard deviations below the greatest
      (arXiv 2411.07641); 0 and below is off.
    - xtc, mirostat, adaptive_p: see their types; mirostat takes the place of all other filters.
    - min_keep: each filter but top_k leaves at least so many of what it was given.
    - repetition_penalty: seen logits are divided (positive) or multiplied (negative) by it
      (arXiv 1909.05858); prompt and output count. presence_penalty and frequency_penalty are
      subtracted, once and per occurrence, for tokens of the output (OpenAI's convention).
    - penalty_last_n: how many of the newest tokens these three look at; -1 is all, 0 is off.
    - dry: see its type. no_repeat_ngram_size: no so many tokens stand together twice; 0 is off.
    - logit_bias: token id -> added to its logit, -100 to 100.
    - allowed_token_ids: only these may come. banned_token_ids: these may not. bad_words: texts that
      may not come, whether they begin a word or stand within one.
    - n: how many answers to give to the one prompt, 1 to 128; it is read once. Each is a choice,
      counted from 0, that is drawn with a seed of its own (`seed_of`).
    - beams: above 1, find the likeliest texts by beam search, instead of drawing one: so many are
      followed at a time, and the n best told, once all are known, in falling order. They are
      compared by the sum of their log-probabilities over length ** length_penalty. early_stopping:
      True ends with as many texts as beams; False where no beam would be better if it ended now;
      "never" where none can become better.
    - samplers: the steps to apply, in this order, and no others. None is all, in the order above.
    - seed: 0 to 2**64 - 1; the same seed and request give the same text, whatever else runs.
    - stop: strings that end the text and are not part of it. stop_token_ids: tokens that do so.
    - max_tokens: None is as many as the context holds. clip_max_tokens lowers a max_tokens that
      does not fit instead of refusing the request; `Finished.clipped_max_tokens` tells the value.
    - min_tokens: end-of-sequence, stop strings and stop tokens are ignored before it.
    - ignore_eos: end-of-sequence does not end the text; stop_token_ids do.
    - prompt_lookup: guess tokens from what followed the same ones before, and check several in a
      step, where that is faster: extraction and editing gain by it. The text stays the same but for
      rounding.
    - logprobs: tell the log-probability of each token that is written, and those of so many of the
      likeliest in its place, 0 to 100; None tells nothing. prompt_logprobs: the same of the
      prompt's tokens, all of which are read for it, whatever an earlier request left ready.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    clip_max_tokens: bool = False
    prompt_lookup: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    n: int = 1
    typical_p: float | None = None
    top_n_sigma: float | None = None
    min_keep: int = 0
    penalty_last_n: int | None = None
    no_repeat_ngram_size: int | None = None
    allowed_token_ids: tuple[int, ...] | None = None
    banned_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    dynamic_temperature: DynamicTemperature | None = None
    xtc: Xtc | None = None
    dry: Dry | None = None
    mirostat: Mirostat | None = None
    adaptive_p: AdaptiveP | None = None
    samplers: tuple[SamplerStep, ...] | None = None
    beams: int = 1
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            InvalidParameter: naming the parameter, the value and the limit.
        """
        for name, (low, high) in BOUNDS.items():
            within(name, getattr(self, name), low, high)
        most = MAX_REPETITION_PENALTY
        within("repetition_penalty", self.repetition_penalty, 0.0, most, exclusive_low=True)
        within("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        within("prompt_logprobs", self.prompt_logprobs, 0, MAX_LOGPROBS)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidParameter(
                f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}",
                param="min_tokens",
            )
        for step in (self.dynamic_temperature, self.xtc, self.dry, self.mirostat, self.adaptive_p):
            if step is not None:
                step.check()
        check_order(self.samplers)
        self._check_beams()
        self._check_tokens()
        _check_texts("stop", "stop string", self.stop, MAX_STOP_STRINGS, MAX_STOP_LENGTH)
        _check_texts("bad_words", "bad word", self.bad_words, MAX_BAD_WORDS, MAX_BAD_WORD_LENGTH)

    def _check_beams(self) -> None:
        if self.beams > 1 and self.n > self.beams:
            raise InvalidParameter(f"n {self.n} is above beams {self.beams}", param="n")
        for name, neutral in (("length_penalty", 1.0), ("early_stopping", False)):
            if self.beams == 1 and getattr(self, name) != neutral:
                raise InvalidParameter(f"{name} is of beams, which is 1", param=name)

    def _check_tokens(self) -> None:
        within("logit_bias entries", len(self.logit_bias), 0, MAX_LOGIT_BIAS, param="logit_bias")
        for token, bias in self.logit_bias.items():
            within(f"logit_bias[{token}]", bias, -100.0, 100.0, param="logit_bias")
        for name, least, most in (
            ("allowed_token_ids", 1, MAX_TOKEN_LIST),
            ("banned_token_ids", 0, MAX_TOKEN_LIST),
            ("stop_token_ids", 0, MAX_STOP_TOKENS),
        ):
            if (ids := getattr(self, name)) is not None:
                within(f"{name} entries", len(ids), least, most, param=name)

    def named_tokens(self) -> Iterable[tuple[str, int]]:
        """Each token that it names, behind the parameter that does."""
        yield from (("logit_bias", token) for token in self.logit_bias)
        for name in ("allowed_token_ids", "banned_token_ids", "stop_token_ids"):
            yield from ((name, token) for token in getattr(self, name) or ())


def _check_texts(param: str, what: str, texts: tuple[str, ...], most: int, longest: int) -> None:
    within(f"the number of {what}s", len(texts), 0, most, param=param)
    for text in texts:
        within(f"a {what}'s length", len(text), 1, longest, param=param)


def seed_of(seed: int | None, choice: int) -> int | None:
    """The seed of one of the choices: it gives the text that a request for one answer gives with
    that seed. Without one, every choice is drawn at random."""
    return None if seed is None else (seed + choice) % (MAX_SEED + 1)
