"""Fields of a body that say how tokens are chosen, by the names that clients of OpenAI, vLLM and
llama.cpp's server give them; pure."""

from __future__ import annotations

from typing import Any

import msgspec

from nsedge.api import Sampling
from nsedge.api.flat_steps import FLAT_NAMES, order_of, steps_of
from nsedge.api.inputs import MAX_TOKEN_ID
from nsedge.api.sampling import MAX_SEED
from nsedge.errors import InvalidParameter
from nsedge.web.bodies import Integer, TokenId
from nsedge.web.chunking import Chunk
from nsedge.web.constraint_fields import ConstraintFields

SAME = (
    ("max_completion_tokens", "max_tokens"),
    ("repetition_penalty", "repeat_penalty"),
    ("penalty_last_n", "repeat_last_n"),
)
"""Fields of the same meaning."""


class SamplingFields(ConstraintFields, kw_only=True):
    """None is the bundle's default."""

    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[TokenId, float | bool] | list[tuple[Any, Any]] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    max_tokens: Integer | None = None
    max_completion_tokens: Integer | None = None
    top_k: Integer | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    repeat_penalty: float | None = None
    min_tokens: Integer | None = None
    ignore_eos: bool | None = None
    clip_max_tokens: bool | None = None
    prompt_lookup: bool | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    min_keep: Integer | None = None
    penalty_last_n: Integer | None = None
    repeat_last_n: Integer | None = None
    no_repeat_ngram_size: Integer | None = None
    allowed_token_ids: list[TokenId] | None = None
    banned_token_ids: list[TokenId] | None = None
    bad_words: list[str] | None = None
    stop_token_ids: list[TokenId] | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: Integer | None = None
    dry_penalty_last_n: Integer | None = None
    dry_sequence_breakers: list[str] | None = None
    mirostat: Integer | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    adaptive_target: float | None = None
    adaptive_decay: float | None = None
    samplers: str | list[str] | None = None
    chunk: Chunk | None = None
    """How the text of a stream is cut."""


def sampling(body: SamplingFields, *, logprobs: int | None = None) -> Sampling:
    """The sampling a body asks for; absent fields stay None. `logprobs`: what it says of these, in
    whatever form its route has.

    Raises:
        InvalidParameter: naming the field as the body wrote it.
    """
    bias, never = _biases(body.logit_bias)
    allowed = body.allowed_token_ids
    wanted = Sampling(
        temperature=body.temperature,
        top_k=0 if body.top_k == -1 else body.top_k,
        top_p=body.top_p,
        min_p=body.min_p,
        repetition_penalty=_same(body, "repetition_penalty", "repeat_penalty"),
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        logit_bias=bias,
        seed=_seed(body.seed),
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        max_tokens=_same(body, "max_completion_tokens", "max_tokens"),
        min_tokens=body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        clip_max_tokens=bool(body.clip_max_tokens),
        prompt_lookup=bool(body.prompt_lookup),
        logprobs=logprobs,
        typical_p=body.typical_p,
        top_n_sigma=body.top_n_sigma,
        min_keep=body.min_keep or 0,
        penalty_last_n=_same(body, "penalty_last_n", "repeat_last_n"),
        no_repeat_ngram_size=body.no_repeat_ngram_size,
        allowed_token_ids=None if allowed is None else tuple(allowed),
        banned_token_ids=(*(body.banned_token_ids or ()), *never),
        bad_words=tuple(body.bad_words or ()),
        stop_token_ids=tuple(body.stop_token_ids or ()),
        samplers=None if body.samplers is None else order_of(body.samplers),
        **steps_of(msgspec.structs.asdict(body)),
    )
    try:
        wanted.check()
    except InvalidParameter as error:
        name = _name_here(body, error.param or "")
        if name == error.param:
            raise
        message = error.message.replace(error.param or "", name)
        raise InvalidParameter(message, param=name) from error
    return wanted


def _biases(
    said: dict[TokenId, float | bool] | list[tuple[Any, Any]] | None,
) -> tuple[dict[int, float], tuple[int, ...]]:
    """What is added to logits, and the tokens that may never come: `false`, as llama.cpp has it.

    Raises:
        InvalidParameter: a pair is no token id and number.
    """
    pairs = said.items() if isinstance(said, dict) else said or ()
    added: dict[int, float] = {}
    never = []
    for number, (token, bias) in enumerate(pairs):
        where = f"logit_bias[{number}]"
        if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token <= MAX_TOKEN_ID:
            message = f"{where} must begin with a token id, not {str(token)[:64]!r}"
            raise InvalidParameter(message, param="logit_bias")
        if bias is False:
            never.append(token)
        elif isinstance(bias, int | float) and bias is not True:
            added[token] = bias  # a whole number may be beyond all floats: bounds come later
        else:
            raise InvalidParameter(f"{where} must be a number, or false", param="logit_bias")
    return added, tuple(never)


def _same(body: SamplingFields, name: str, other: str) -> Any:
    """What one of two fields of the same meaning says.

    Raises:
        InvalidParameter: they differ.
    """
    value, old = getattr(body, name), getattr(body, other)
    if value is not None and old is not None and value != old:
        raise InvalidParameter(f"{other} {old} and {name} {value} differ", param=name)
    return old if value is None else value


def _name_here(body: SamplingFields, param: str) -> str:
    """What the body called a parameter."""
    for name, other in SAME:
        if param in (name, other):
            return name if getattr(body, name) is not None else other
    return FLAT_NAMES.get(param, param)


def _seed(seed: int | None) -> int | None:
    """OpenAI's seeds are signed; a negative one is taken modulo 2**64."""
    if seed is None:
        return None
    if not -(2**63) <= seed <= MAX_SEED:
        raise InvalidParameter(
            f"seed must be at least {-(2**63)} and at most {MAX_SEED}", param="seed"
        )
    return seed & MAX_SEED
