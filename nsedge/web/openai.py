"""OpenAI's request bodies -> `Request`s, and the answers given in one piece; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nsedge.api import (
    MAX_SEED,
    ChatPrompt,
    Finished,
    Message,
    ModelInfo,
    Priority,
    Prompt,
    Request,
    Role,
    Sampling,
    TextPrompt,
)
from nsedge.api.models import keep_alive_of
from nsedge.errors import EmptyPrompt, InvalidParameter, MessageTooLarge
from nsedge.web.limits import WebLimits
from nsedge.web.schema import (
    ChatBody,
    ChatTurn,
    CompletionBody,
    ContentPart,
    OpenAiBody,
    SamplingFields,
)

OWNER = "nsedge"
_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
# Fields that would change the answer, and the values of them that do not.
_CHAT_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "web_search_options": (None,),
}
_COMPLETION_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logprobs": (None,),
    "echo": (None, False),
    "suffix": (None, ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What every chunk of one answer repeats. created: seconds since the Unix epoch."""

    id: str
    created: int
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One finished choice of an answer."""

    text: str
    finished: Finished


def chat_requests(body: ChatBody, request_id: str, limits: WebLimits) -> tuple[Request, ...]:
    """The requests, a choice each, that answer a chat completion.

    Raises:
        InvalidParameter, EmptyPrompt, MessageTooLarge: naming the field and the limit.
    """
    _refuse_unsupported(body, _CHAT_NEUTRAL)
    if not body.messages:
        raise EmptyPrompt("messages is empty", param="messages")
    if len(body.messages) > limits.max_messages:
        raise InvalidParameter(
            f"{len(body.messages)} messages are beyond the limit of {limits.max_messages}",
            param="messages",
        )
    fair_share = tuple(_message(number, turn) for number, turn in enumerate(body.messages))
    check_length(sum(len(turn.content) for turn in fair_share), limits, "messages")
    return _requests(body, [ChatPrompt(messages=fair_share)], request_id, limits)


def completion_requests(
    body: CompletionBody, request_id: str, limits: WebLimits
) -> tuple[Request, ...]:
    """The requests, a choice each, that answer a text completion: n of each prompt in turn.

    Raises:
        InvalidParameter, EmptyPrompt, MessageTooLarge: naming the field and the limit.
    """
    _refuse_unsupported(body, _COMPLETION_NEUTRAL)
    if body.best_of not in (None, body.n or 1):
        raise InvalidParameter("best_of above n is not supported", param="best_of")
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if not prompts:
        raise EmptyPrompt("prompt is empty", param="prompt")
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise InvalidParameter(
            "prompt must be a string or an array of strings; token ids are not supported",
            param="prompt",
        )
    check_length(sum(map(len, prompts)), limits, "prompt")
    return _requests(body, [TextPrompt(text=text) for text in prompts], request_id, limits)


def sampling(body: SamplingFields) -> Sampling:
    """The sampling a body asks for; absent fields stay None.

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
    )
    try:
        wanted.check()
    except InvalidParameter as error:
        if error.param == "max_tokens" and body.max_completion_tokens is not None:
            name = "max_completion_tokens"
            raise InvalidParameter(error.message.replace("max_tokens", name), param=name) from error
        raise
    return wanted


def scheduling(body: SamplingFields) -> dict[str, Any]:
    """The request's `priority`, `deadline_s` and `keep_alive_s`, as a body asks for them.

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


def chat_answer(head: Head, choices: Sequence[Choice], per_prompt: int) -> dict[str, Any]:
    """OpenAI's `chat.completion` object."""
    return {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": None,
                "finish_reason": choice.finished.reason.value,
                **clipped(choice.finished),
            }
            for index, choice in enumerate(choices)
        ],
        "usage": usage([choice.finished for choice in choices], per_prompt),
    }


def completion_answer(head: Head, choices: Sequence[Choice], per_prompt: int) -> dict[str, Any]:
    """OpenAI's `text_completion` object."""
    return {
        "id": head.id,
        "object": "text_completion",
        "created": head.created,
        "model": head.model,
        "choices": [
            {
                "text": choice.text,
                "index": index,
                "logprobs": None,
                "finish_reason": choice.finished.reason.value,
                **clipped(choice.finished),
            }
            for index, choice in enumerate(choices)
        ],
        "usage": usage([choice.finished for choice in choices], per_prompt),
    }


def usage(finished: Sequence[Finished], per_prompt: int) -> dict[str, Any]:
    """Tokens of all choices; a prompt answered `per_prompt` times counts once."""
    cached = sum(one.usage.cached_tokens for one in finished[::per_prompt])
    prompt = sum(one.usage.prompt_tokens for one in finished[::per_prompt])
    completion = sum(one.usage.completion_tokens for one in finished)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def clipped(finished: Finished) -> dict[str, int]:
    """The field that owns up to a lowered max_tokens; none where nothing was lowered."""
    if finished.clipped_max_tokens is None:
        return {}
    return {"clipped_max_tokens": finished.clipped_max_tokens}


def model_object(model: ModelInfo) -> dict[str, Any]:
    """OpenAI's `model` object, and our facts beside it."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": OWNER,
        "state": model.state.value,
        "context_tokens": model.context_tokens,
        "provider": model.provider,
        "variant": model.variant,
        "aliases": model.aliases,
        "parent": model.base,
    }


def _requests(
    body: OpenAiBody, prompts: Sequence[Prompt], request_id: str, limits: WebLimits
) -> tuple[Request, ...]:
    wanted, n = sampling(body), 1 if body.n is None else body.n
    if not 1 <= n * len(prompts) <= limits.max_choices:
        raise InvalidParameter(
            f"n x prompts must be at least 1 and at most {limits.max_choices},"
            f" not {n * len(prompts)}",
            param="n",
        )
    first = Request(
        request_id=request_id,
        model=body.model,
        prompt=prompts[0],
        sampling=wanted,
        **scheduling(body),
    )
    first.check()
    if n * len(prompts) == 1:
        return (first,)
    return tuple(
        replace(
            first,
            request_id=f"{request_id}/{which * n + again}",
            prompt=prompt,
            sampling=_reseeded(wanted, again),
        )
        for which, prompt in enumerate(prompts)
        for again in range(n)
    )


def _reseeded(wanted: Sampling, again: int) -> Sampling:
    """With one seed for all, every choice of a prompt would read the same."""
    if wanted.seed is None:
        return wanted
    return replace(wanted, seed=(wanted.seed + again) & MAX_SEED)


def _message(number: int, turn: ChatTurn) -> Message:
    where = f"messages[{number}]"
    role = _ROLES.get(turn.role)
    if role is None:
        raise InvalidParameter(
            f"{where}.role must be one of {', '.join(_ROLES)}, not {turn.role!r}",
            param=f"{where}.role",
        )
    for field in ("tool_calls", "function_call"):
        if getattr(turn, field):
            raise InvalidParameter(f"{where}.{field} is not supported", param=f"{where}.{field}")
    if turn.content is None:
        raise InvalidParameter(f"{where}.content is missing", param=f"{where}.content")
    return Message(role=role, content=_text(turn.content, f"{where}.content"))


def _text(content: str | list[ContentPart], where: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for number, part in enumerate(content):
        if part.type != "text" or part.text is None:
            raise InvalidParameter(
                f"{where}[{number}]: parts of type {part.type!r} are not supported, only text",
                param=f"{where}[{number}]",
            )
        texts.append(part.text)
    return "\n".join(texts)


def _refuse_unsupported(body: OpenAiBody, neutral: dict[str, tuple[Any, ...]]) -> None:
    for field, harmless in neutral.items():
        if getattr(body, field) not in harmless:
            raise InvalidParameter(f"{field} is not supported here", param=field)


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
