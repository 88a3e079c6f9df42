"""How tokens are chosen and when an answer ends, and the bounds of each parameter."""

from __future__ import annotations

from dataclasses import dataclass, field

from nsedge.errors import InvalidParameter

MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 256
MAX_LOGIT_BIAS = 1024
MAX_SEED = 2**64 - 1
MAX_LOGPROBS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to choose tokens and when to end. `None`: the bundle's default, then the neutral one.

    Order of application: logit_bias, repetition, presence and frequency penalties, then
    temperature, top_k, top_p and min_p, each on what the one before left.

    - temperature: 0 is greedy; at most 10.
    - top_k: candidates kept; 0 is off.
    - top_p: smallest nucleus whose probability reaches it (arXiv 1904.09751); 0 is the likeliest
      token alone, 1 is off.
    - min_p: tokens below this share of the best token's probability are dropped; 0 is off.
    - repetition_penalty: seen logits are divided (positive) or multiplied (negative) by it
      (arXiv 1909.05858); prompt and output count. presence_penalty and frequency_penalty are
      subtracted, once and per occurrence, for tokens of the output (OpenAI's convention).
    - logit_bias: token id -> added to its logit, -100 to 100.
    - seed: 0 to 2**64 - 1; the same seed and request give the same text, whatever else runs.
    - stop: strings that end the text and are not part of it.
    - max_tokens: None is as many as the context holds. clip_max_tokens lowers a max_tokens that
      does not fit instead of refusing the request; `Finished.clipped_max_tokens` tells the value.
    - min_tokens: end-of-sequence and stop strings are ignored before it.
    - prompt_lookup: guess tokens from what followed the same ones before, and check several in a
      step, where that is faster: extraction and editing gain by it. The text stays the same but for
      rounding.
    - logprobs: tell the log-probability of each token that is written, and those of so many of the
      likeliest in its place, 0 to 100; None tells nothing.
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

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            InvalidParameter: naming the parameter, the value and the limit.
        """
        within("temperature", self.temperature, 0.0, 10.0)
        within("top_k", self.top_k, 0, 2**31 - 1)
        within("top_p", self.top_p, 0.0, 1.0)
        within("min_p", self.min_p, 0.0, 1.0)
        within("repetition_penalty", self.repetition_penalty, 0.0, 10.0, exclusive_low=True)
        within("presence_penalty", self.presence_penalty, -2.0, 2.0)
        within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        within("seed", self.seed, 0, MAX_SEED)
        within("max_tokens", self.max_tokens, 1, 2**31 - 1)
        within("min_tokens", self.min_tokens, 0, 2**31 - 1)
        within("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidParameter(
                f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}",
                param="min_tokens",
            )
        within("the number of stop strings", len(self.stop), 0, MAX_STOP_STRINGS, param="stop")
        for text in self.stop:
            within("a stop string's length", len(text), 1, MAX_STOP_LENGTH, param="stop")
        within("logit_bias entries", len(self.logit_bias), 0, MAX_LOGIT_BIAS, param="logit_bias")
        for token, bias in self.logit_bias.items():
            within(f"logit_bias[{token}]", bias, -100.0, 100.0, param="logit_bias")


def within(
    name: str,
    value: float | None,
    low: float,
    high: float,
    *,
    exclusive_low: bool = False,
    param: str | None = None,
) -> None:
    """Raises InvalidParameter where `value`, if any, is not between `low` and `high`."""
    if value is None:
        return
    above = value > low if exclusive_low else value >= low
    if not (above and value <= high):  # false for NaN, too
        bounds = f"{'above' if exclusive_low else 'at least'} {low} and at most {high}"
        raise InvalidParameter(f"{name} must be {bounds}, not {value}", param=param or name)
