"""OpenAI's request bodies -> `Request`s; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nsedge.api import (
    MAX_SEED,
    ChatPrompt,
    Message,
    Prompt,
    Request,
    Role,
    Sampling,
    TextPrompt,
)
from nsedge.errors import EmptyPrompt, InvalidParameter
from nsedge.web.doors.openai.bodies import (
    ChatBody,
    ChatTurn,
    CompletionBody,
    ContentPart,
    OpenAiBody,
)
from nsedge.web.limits import WebLimits
from nsedge.web.request_fields import check_length, sampling, scheduling

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
    turns = tuple(_message(number, turn) for number, turn in enumerate(body.messages))
    check_length(sum(len(turn.content) for turn in turns), limits, "messages")
    return _requests(body, [ChatPrompt(messages=turns)], request_id, limits)


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
