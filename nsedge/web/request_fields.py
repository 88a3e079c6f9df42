"""Fields that every body which asks for text may have, and what they ask for; pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nsedge.api import (
    Chat,
    Generate,
    Media,
    MediaPart,
    Message,
    ModelInfo,
    Priority,
    Role,
    Sampling,
    TextPart,
)
from nsedge.api.models import keep_alive_of
from nsedge.api.sampling import MAX_SEED
from nsedge.api.scheduling import SchedulingFields
from nsedge.errors import InvalidParameter, MessageTooLarge
from nsedge.web.bodies import Integer, TokenId
from nsedge.web.chunking import Chunk
from nsedge.web.limits import WebLimits


class SchedulingBody(msgspec.Struct, kw_only=True):
    """How a body says when its request is to run, and what follows from it."""

    priority: str | Integer | None = None
    """A class by name; or, as vLLM has it, a number, of which the lower goes first."""
    deadline_s: float | None = None
    keep_alive: str | float | None = None
    """How long the model stays in memory unused from then on: seconds, `5m`, `forever`, `now`."""


class SamplingFields(SchedulingBody, kw_only=True):
    """OpenAI's sampling fields, and ours beside them. None is the bundle's default."""

    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[TokenId, float] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    max_tokens: Integer | None = None
    max_completion_tokens: Integer | None = None
    top_k: Integer | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: Integer | None = None
    ignore_eos: bool | None = None
    clip_max_tokens: bool | None = None
    prompt_lookup: bool | None = None
    chunk: Chunk | None = None
    """How the text of a stream is cut."""


def sampling(body: SamplingFields, *, logprobs: int | None = None) -> Sampling:
    """The sampling a body asks for; absent fields stay None. `logprobs`: what it says of these, in
    whatever form its route has.

    Raises:
        InvalidParameter: naming the field as the body wrote it.
    """
    max_tokens = _max_tokens(body)
    wanted = Sampling(
        temperature=body.temperature,
        top_k=body.top_k,
        top_p=body.top_p,
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        logit_bias={} if body.logit_bias is None else body.logit_bias,
        seed=_seed(body.seed),
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        max_tokens=max_tokens,
        min_tokens=body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        clip_max_tokens=bool(body.clip_max_tokens),
        prompt_lookup=bool(body.prompt_lookup),
        logprobs=logprobs,
    )
    try:
        wanted.check()
    except InvalidParameter as error:
        if error.param == "max_tokens" and body.max_completion_tokens is not None:
            name = "max_completion_tokens"
            raise InvalidParameter(error.message.replace("max_tokens", name), param=name) from error
        raise
    return wanted


def scheduling(body: SchedulingBody) -> SchedulingFields:
    """How the request is to be scheduled, as far as a body says.

    Raises:
        InvalidParameter: where the priority is neither a number nor the name of a class, or the
            keep-alive no duration.
    """
    kept = body.keep_alive
    return {
        "priority": priority_of(body.priority),
        "deadline_s": body.deadline_s,
        "keep_alive_s": None if kept is None else keep_alive_of(kept),
    }


def spoken(
    text: str,
    model: ModelInfo,
    sampling: Sampling,
    *,
    raw: bool = False,
    media: Sequence[Media] = (),
) -> Generate | Chat:
    """`text` as what a user says, where the model has a chat template; else, or where `raw`, as
    what is to be continued. `media` stand before it, and are always said by a user."""
    if not media and (raw or not model.has_chat_template):
        return Generate(text=text, sampling=sampling)
    seen = tuple(MediaPart(media=one) for one in media)
    said = Message(role=Role.USER, content=(*seen, TextPart(text=text)) if seen else text)
    return Chat(messages=(said,), sampling=sampling)


def check_length(chars: int, limits: WebLimits, param: str) -> None:
    """Refuse prompts of more characters than the shim passes on.

    Raises:
        MessageTooLarge: naming `param`.
    """
    if chars > limits.max_prompt_chars:
        raise MessageTooLarge(
            f"{param} has {chars} characters, beyond the limit of {limits.max_prompt_chars}",
            param=param,
        )


def priority_of(value: str | int | None) -> Priority:
    """vLLM's default, 0, is the normal class."""
    if value is None or value == 0:
        return Priority.NORMAL
    if isinstance(value, int):
        return Priority.INTERACTIVE if value < 0 else Priority.BATCH
    try:
        return Priority(value)
    except ValueError as error:
        names = ", ".join(Priority)
        raise InvalidParameter(
            f"priority must be a whole number, or one of {names}, not {value!r}", param="priority"
        ) from error


def _max_tokens(body: SamplingFields) -> int | None:
    old, new = body.max_tokens, body.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise InvalidParameter(
            f"max_tokens {old} and max_completion_tokens {new} differ",
            param="max_completion_tokens",
        )
    return old if new is None else new


def _seed(seed: int | None) -> int | None:
    """OpenAI's seeds are signed; a negative one is taken modulo 2**64."""
    if seed is None:
        return None
    if not -(2**63) <= seed <= MAX_SEED:
        raise InvalidParameter(
            f"seed must be at least {-(2**63)} and at most {MAX_SEED}", param="seed"
        )
    return seed & MAX_SEED
