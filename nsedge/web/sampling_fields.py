"""Fields of a body that say how tokens are chosen, by the names that clients of OpenAI, vLLM and
llama.cpp's server give them; pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nsedge.api import Sampling
from nsedge.api.flat_steps import FLAT_NAMES, LETTERS, NAMES, order_of, steps_of
from nsedge.api.inputs import MAX_TOKEN_ID
from nsedge.api.sampling import (
    BOUNDS,
    MAX_BAD_WORD_LENGTH,
    MAX_BAD_WORDS,
    MAX_LOGIT_BIAS,
    MAX_REPETITION_PENALTY,
    MAX_SEED,
    MAX_STOP_LENGTH,
    MAX_STOP_STRINGS,
    MAX_STOP_TOKENS,
    MAX_TOKEN_LIST,
)
from nsedge.api.steps import BOUNDS as STEP_BOUNDS
from nsedge.api.steps import MAX_BREAKER_LENGTH, MAX_BREAKERS
from nsedge.errors import InvalidParameter
from nsedge.web.bodies import Integer, TokenId
from nsedge.web.chunking import Chunk
from nsedge.web.constraint_fields import ConstraintFields
from nsedge.web.hints import between, hint, one_of
from nsedge.web.integers import integer_of

SAME = (
    ("max_completion_tokens", "max_tokens"),
    ("repetition_penalty", "repeat_penalty"),
    ("penalty_last_n", "repeat_last_n"),
    ("beams", "num_beams"),
)
"""Fields of the same meaning: where both are given, they are equal. JSON Schema cannot say so."""


_STEPS = {FLAT_NAMES[name]: bounds for name, bounds in STEP_BOUNDS.items()}
_BIAS = {"anyOf": [{"type": "number", "minimum": -100, "maximum": 100}, {"const": False}]}
_ID = {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID}
_PAIR = {"type": "array", "minItems": 2, "maxItems": 2, "prefixItems": [_ID, _BIAS]}
LogitBias = (
    Annotated[
        dict[TokenId, float | bool],
        hint(
            propertyNames={"pattern": "^(0|[1-9][0-9]{0,8}|1[0-9]{9}|20[0-9]{8})$"},
            additionalProperties=_BIAS,
            maxProperties=MAX_LOGIT_BIAS,
        ),
    ]
    | Annotated[list[tuple[Any, Any]], hint(items=_PAIR, maxItems=MAX_LOGIT_BIAS)]
)
Order = (
    Annotated[str, hint(pattern=f"^[{''.join(LETTERS)}]*$", format="no-letter-twice")]
    | Annotated[list[Annotated[str, one_of(NAMES)]], hint(uniqueItems=True)]
)
"""The steps to apply: by name, or a letter each."""
Repetition = Annotated[float, hint(exclusiveMinimum=0, maximum=MAX_REPETITION_PENALTY)]
TopK = Annotated[Integer, between((-1, BOUNDS["top_k"][1]))]
Seed = Annotated[int, between((-(2**63), MAX_SEED))]
Tokens = list[TokenId]
Stop = Annotated[str, hint(minLength=1, maxLength=MAX_STOP_LENGTH)]
Stops = Annotated[list[Stop], hint(maxItems=MAX_STOP_STRINGS)]
BadWord = Annotated[str, hint(minLength=1, maxLength=MAX_BAD_WORD_LENGTH)]
Breaker = Annotated[str, hint(minLength=1, maxLength=MAX_BREAKER_LENGTH)]


def bounds_of(name: str) -> Meta:
    """The bounds of a field that has a number."""
    return between(_STEPS[name] if name in _STEPS else BOUNDS[name])


class SamplingFields(ConstraintFields, kw_only=True):
    """None is the bundle's default."""

    temperature: Annotated[float, bounds_of("temperature")] | None = None
    top_p: Annotated[float, bounds_of("top_p")] | None = None
    presence_penalty: Annotated[float, bounds_of("presence_penalty")] | None = None
    frequency_penalty: Annotated[float, bounds_of("frequency_penalty")] | None = None
    logit_bias: LogitBias | None = None
    seed: Seed | None = None
    stop: Stop | Stops | None = None
    max_tokens: Annotated[Integer, bounds_of("max_tokens")] | None = None
    max_completion_tokens: Annotated[Integer, bounds_of("max_tokens")] | None = None
    top_k: TopK | None = None
    min_p: Annotated[float, bounds_of("min_p")] | None = None
    repetition_penalty: Repetition | None = None
    repeat_penalty: Repetition | None = None
    min_tokens: Annotated[Integer, bounds_of("min_tokens")] | None = None
    ignore_eos: bool | None = None
    clip_max_tokens: bool | None = None
    prompt_lookup: bool | None = None
    typical_p: Annotated[float, bounds_of("typical_p")] | None = None
    top_n_sigma: Annotated[float, bounds_of("top_n_sigma")] | None = None
    min_keep: Annotated[Integer, bounds_of("min_keep")] | None = None
    penalty_last_n: Annotated[Integer, bounds_of("penalty_last_n")] | None = None
    repeat_last_n: Annotated[Integer, bounds_of("penalty_last_n")] | None = None
    no_repeat_ngram_size: Annotated[Integer, bounds_of("no_repeat_ngram_size")] | None = None
    allowed_token_ids: Annotated[Tokens, hint(minItems=1, maxItems=MAX_TOKEN_LIST)] | None = None
    banned_token_ids: Annotated[Tokens, hint(maxItems=MAX_TOKEN_LIST)] | None = None
    bad_words: Annotated[list[BadWord], hint(maxItems=MAX_BAD_WORDS)] | None = None
    stop_token_ids: Annotated[Tokens, hint(maxItems=MAX_STOP_TOKENS)] | None = None
    dynatemp_range: Annotated[float, bounds_of("dynatemp_range")] | None = None
    dynatemp_exponent: Annotated[float, bounds_of("dynatemp_exponent")] | None = None
    xtc_probability: Annotated[float, bounds_of("xtc_probability")] | None = None
    xtc_threshold: Annotated[float, bounds_of("xtc_threshold")] | None = None
    dry_multiplier: Annotated[float, bounds_of("dry_multiplier")] | None = None
    dry_base: Annotated[float, bounds_of("dry_base")] | None = None
    dry_allowed_length: Annotated[Integer, bounds_of("dry_allowed_length")] | None = None
    dry_penalty_last_n: Annotated[Integer, bounds_of("dry_penalty_last_n")] | None = None
    dry_sequence_breakers: Annotated[list[Breaker], hint(maxItems=MAX_BREAKERS)] | None = None
    mirostat: Annotated[Integer, one_of((0, 2))] | None = None
    mirostat_tau: Annotated[float, bounds_of("mirostat_tau")] | None = None
    mirostat_eta: Annotated[float, bounds_of("mirostat_eta")] | None = None
    adaptive_target: Annotated[float, bounds_of("adaptive_target")] | None = None
    adaptive_decay: Annotated[float, bounds_of("adaptive_decay")] | None = None
    samplers: Order | None = None
    beams: Annotated[Integer, bounds_of("beams")] | None = None
    num_beams: Annotated[Integer, bounds_of("beams")] | None = None
    use_beam_search: bool | None = None
    """vLLM's: as many beams as `best_of`, or `n`, says, where `beams` does not."""
    length_penalty: Annotated[float, bounds_of("length_penalty")] | None = None
    early_stopping: bool | Annotated[Literal["never"], one_of(("never",))] | None = None
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
        # A search of one beam is greedy.
        temperature=0.0 if body.use_beam_search and not body.temperature else body.temperature,
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
        beams=_beams(body),
        length_penalty=1.0 if body.length_penalty is None else body.length_penalty,
        early_stopping=body.early_stopping or False,
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
        token_id = integer_of(token)
        if token_id is None or not 0 <= token_id <= MAX_TOKEN_ID:
            message = f"{where} must begin with a token id, not {str(token)[:64]!r}"
            raise InvalidParameter(message, param="logit_bias")
        if bias is False:
            never.append(token_id)
        elif isinstance(bias, int | float) and bias is not True:
            added[token_id] = bias  # a whole number may be beyond all floats: bounds come later
        else:
            raise InvalidParameter(f"{where} must be a number, or false", param="logit_bias")
    return added, tuple(never)


def _beams(body: SamplingFields) -> int:
    """How many beams there are.

    Raises:
        InvalidParameter: the fields of them differ, or a search is asked for that draws.
    """
    beams: int | None = _same(body, "beams", "num_beams")
    if not body.use_beam_search:
        if body.use_beam_search is False and (beams or 1) > 1:
            message = f"use_beam_search is false, and beams are {beams}"
            raise InvalidParameter(message, param="use_beam_search")
        return 1 if beams is None else beams
    if body.temperature:
        message = f"temperature must be 0 in a beam search, not {body.temperature}"
        raise InvalidParameter(message, param="temperature")
    counts = (beams, getattr(body, "best_of", None), getattr(body, "n", None))
    return next((count for count in counts if count is not None), 1)


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
    return param


def _seed(seed: int | None) -> int | None:
    """OpenAI's seeds are signed; a negative one is taken modulo 2**64."""
    if seed is None:
        return None
    if not -(2**63) <= seed <= MAX_SEED:
        raise InvalidParameter(
            f"seed must be at least {-(2**63)} and at most {MAX_SEED}", param="seed"
        )
    return seed & MAX_SEED
