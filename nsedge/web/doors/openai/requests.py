"""OpenAI's request bodies -> `Request`s; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from nsedge.api import (
    Chat,
    Generate,
    MediaPart,
    Message,
    Request,
    Role,
)
from nsedge.api.bounds import within
from nsedge.api.sampling import MAX_LOGPROBS
from nsedge.errors import EmptyPrompt, InvalidParameter
from nsedge.web.constraint_fields import constraint
from nsedge.web.doors.openai.bodies import (
    ChatBody,
    ChatTurn,
    CompletionBody,
    ContentPart,
    OpenAiBody,
)
from nsedge.web.doors.openai.logprobs import Telling
from nsedge.web.doors.openai.parts import content_of, shown
from nsedge.web.doors.openai.tools import calls_of, chat_fields
from nsedge.web.limits import WebLimits
from nsedge.web.other_fields import OtherFields
from nsedge.web.prompt_fields import prompts_of, task_of
from nsedge.web.request_fields import check_length, scheduling
from nsedge.web.sampling_fields import sampling

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
CHAT_OTHERS = OtherFields(own={"add_special_tokens": (False,)})
"""A chat's markers are the template's own."""
COMPLETION_OTHERS = OtherFields(own={"add_special_tokens": (True,)})
COMPLETION_TOKENS = 16
"""OpenAI's max_tokens of a completion that gives none."""
_NOT_OF_MESSAGES = ("function_call", "audio")


def chat_requests(body: ChatBody, request_id: str, limits: WebLimits) -> tuple[Request, ...]:
    """The request that a chat completion asks for. Raises as `chat_of`."""
    return _requests(body, [chat_of(body, limits)], request_id, limits)


def chat_of(body: ChatBody, limits: WebLimits) -> Chat:
    """The conversation of a body.

    Raises:
        InvalidParameter, EmptyPrompt, MessageTooLarge: naming the field and the limit.
    """
    if not body.messages:
        raise EmptyPrompt("messages is empty", param="messages")
    if len(body.messages) > limits.max_messages:
        raise InvalidParameter(
            f"{len(body.messages)} messages are beyond the limit of {limits.max_messages}",
            param="messages",
        )
    turns = tuple(_message(number, turn) for number, turn in enumerate(body.messages))
    check_length(sum(map(_length, turns)), limits, "messages")
    check_length(len(msgspec.json.encode([body.tools, body.documents])), limits, "tools")
    sampled = replace(
        sampling(body, logprobs=_chat_logprobs(body)),
        prompt_logprobs=_of_prompt(body, None),
        n=_chosen(body),
    )
    held = constraint(body)
    return Chat(messages=turns, sampling=sampled, constraint=held, **chat_fields(body))


def completion_requests(
    body: CompletionBody, request_id: str, limits: WebLimits
) -> tuple[Request, ...]:
    """The requests that a text completion asks for, one a prompt.

    Raises:
        InvalidParameter, EmptyPrompt, MessageTooLarge: naming the field and the limit.
    """
    prompts = prompts_of(body.prompt, limits)
    check_length(len(body.suffix or ""), limits, "suffix")
    if body.echo and body.suffix:
        raise InvalidParameter("echo cannot stand with a suffix", param="echo")
    if body.echo and not all(isinstance(prompt, str) for prompt in prompts):
        raise InvalidParameter("echo wants texts as prompts, not token ids", param="echo")
    if not _writes(body):
        body = msgspec.structs.replace(body, max_tokens=1, max_completion_tokens=None)
    wanted = replace(
        sampling(body, logprobs=body.logprobs),
        prompt_logprobs=_of_prompt(body, body.logprobs if body.echo else None),
        n=_tried(body),
    )
    if _tried(body) > _chosen(body) and wanted.logprobs is None:
        wanted = replace(wanted, logprobs=0)  # by which the best are told
    if wanted.max_tokens is None:
        enough = max(COMPLETION_TOKENS, wanted.min_tokens)
        wanted = replace(wanted, max_tokens=enough, clip_max_tokens=True)
    held = constraint(body)
    suffix = body.suffix or None
    tasks = [task_of(prompt, suffix=suffix, sampling=wanted, constraint=held) for prompt in prompts]
    return _requests(body, tasks, request_id, limits)


def _chat_logprobs(body: ChatBody) -> int | None:
    top = body.top_logprobs
    within("top_logprobs", top, 0, MAX_LOGPROBS)
    if not body.logprobs:
        if top:
            raise InvalidParameter("top_logprobs wants logprobs: true", param="top_logprobs")
        return None
    return top or 0


def telling_of(body: ChatBody | CompletionBody) -> Telling:
    """What the answer to a checked body tells of its tokens."""
    as_ids = bool(body.return_tokens_as_token_ids)
    if isinstance(body, ChatBody):
        logprobs = _chat_logprobs(body)
        return Telling(logprobs=logprobs, prompt_logprobs=body.prompt_logprobs, as_ids=as_ids)
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    return Telling(
        logprobs=body.logprobs,
        prompt_logprobs=body.prompt_logprobs,
        as_ids=as_ids,
        echo=tuple(prompts) if body.echo else (),
        written=_writes(body),
    )


def _writes(body: CompletionBody) -> bool:
    """Whether more than the echo is asked for."""
    return not (body.echo and 0 in (body.max_tokens, body.max_completion_tokens))


def _of_prompt(body: OpenAiBody, echoed: int | None) -> int | None:
    """Of how many of the likeliest tokens in the prompt's places the log-probabilities are told, in
    a field of their own, or in the echo.

    Raises:
        InvalidParameter: it is out of range, or to be streamed.
    """
    wanted = body.prompt_logprobs
    within("prompt_logprobs", wanted, 0, MAX_LOGPROBS)
    if wanted is not None and body.stream:
        raise InvalidParameter("prompt_logprobs are not told in a stream", param="prompt_logprobs")
    asked = [count for count in (wanted, echoed) if count is not None]
    return max(asked, default=None)


def _chosen(body: OpenAiBody) -> int:
    return 1 if body.n is None else body.n


def _tried(body: CompletionBody) -> int:
    """How many answers are given to each prompt, of which the best n are told.

    Raises:
        InvalidParameter: fewer than n, or to be streamed.
    """
    n, best_of = _chosen(body), body.best_of
    if best_of is None or best_of == n:
        return n
    if best_of < n:
        raise InvalidParameter(f"best_of {best_of} is below n {n}", param="best_of")
    if body.use_beam_search:
        return n  # of the beams, of which there are so many
    if body.stream:
        raise InvalidParameter("best_of above n cannot be streamed", param="best_of")
    return best_of


def _requests(
    body: OpenAiBody, tasks: Sequence[Generate | Chat], request_id: str, limits: WebLimits
) -> tuple[Request, ...]:
    n = tasks[0].sampling.n
    if not 1 <= n * len(tasks) <= limits.max_choices:
        param = "n" if n == _chosen(body) else "best_of"
        raise InvalidParameter(
            f"{param} x prompts must be at least 1 and at most {limits.max_choices},"
            f" not {n * len(tasks)}",
            param=param,
        )
    first = Request(
        request_id=request_id,
        model=body.model,
        task=tasks[0],
        **scheduling(body),
    )
    first.check()
    if len(tasks) == 1:
        return (first,)
    return tuple(
        replace(first, request_id=f"{request_id}/{which}", task=task)
        for which, task in enumerate(tasks)
    )


def _message(number: int, turn: ChatTurn) -> Message:
    where = f"messages[{number}]"
    role = _ROLES.get(turn.role)
    if role is None:
        raise InvalidParameter(
            f"{where}.role must be one of {', '.join(_ROLES)}, not {turn.role!r}",
            param=f"{where}.role",
        )
    for field in _NOT_OF_MESSAGES:
        if getattr(turn, field):
            raise InvalidParameter(f"{where}.{field} is not supported", param=f"{where}.{field}")
    parts = _parts(turn.content, f"{where}.content", role)
    if turn.refusal is not None:
        parts.append(_refusal(turn.refusal, f"{where}.refusal", role))
    if not parts and turn.content is None and not turn.tool_calls:
        raise InvalidParameter(f"{where}.content is missing", param=f"{where}.content")
    return Message(
        role=role,
        content=content_of(parts),
        tool_calls=calls_of(turn.tool_calls, f"{where}.tool_calls"),
        tool_call_id=turn.tool_call_id,
        name=turn.name,
        reasoning=turn.reasoning_content,
    )


def _length(message: Message) -> int:
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return len(message.text) + len(message.reasoning or "") + calls


def _parts(
    content: str | list[ContentPart] | None, where: str, role: Role
) -> list[str | MediaPart]:
    if content is None:
        return []
    if isinstance(content, str):
        return [content]
    return [_part(part, f"{where}[{number}]", role) for number, part in enumerate(content)]


def _part(part: ContentPart, where: str, role: Role) -> str | MediaPart:
    if part.type == "text" and part.text is not None:
        return part.text
    if part.type == "refusal" and part.refusal is not None:
        return _refusal(part.refusal, where, role)
    return shown(part, where)


def _refusal(text: str, where: str, role: Role) -> str:
    """What the assistant said instead of an answer."""
    if role is not Role.ASSISTANT:
        raise InvalidParameter(f"{where}: only an assistant refuses", param=where)
    return text
