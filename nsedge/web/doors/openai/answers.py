"""OpenAI's answers in one piece; pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from nsedge.api import Finished, FinishReason, Logprobs, ModelInfo
from nsedge.web.choices import Choice
from nsedge.web.doors.openai.logprobs import (
    PLAIN,
    CompletionLogprobs,
    Telling,
    chat_logprobs,
    prompt_logprobs,
)
from nsedge.web.doors.openai.shapes import (
    CallObject,
    ChatCompletion,
    MessageObject,
    ModelObject,
    PromptLogprobs,
    TextChoice,
    TextCompletion,
)
from nsedge.web.errors import Refusal, Refused
from nsedge.web.logprobs import told, told_of_all, told_of_prompt
from nsedge.web.media_read import media_told
from nsedge.web.said import calls_in, thoughts_in
from nsedge.web.usage import Usage, clipped, usage

OWNER = "nsedge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What every chunk of one answer repeats. created: seconds since the Unix epoch."""

    id: str
    created: int
    model: str


def chat_answer(
    head: Head, choices: Sequence[Choice], per_prompt: int, telling: Telling = PLAIN
) -> ChatCompletion:
    """OpenAI's `chat.completion` object."""
    return {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [
            {
                "index": index,
                "message": message_of(choice),
                "logprobs": (
                    None
                    if telling.logprobs is None
                    else chat_logprobs(told_of_all(choice.results), telling)
                ),
                "finish_reason": choice.finished.reason.value,
                **clipped(choice.finished),
            }
            for index, choice in enumerate(choices)
        ],
        **_of_prompt(choices[0], telling),
        **media_told(choices[0].results),
        "usage": usage([choice.finished for choice in choices], per_prompt),
    }


def message_of(choice: Choice) -> MessageObject:
    """What the assistant said, thought and called; null where it said nothing but calls."""
    thought = thoughts_in(choice.results)
    calls: list[CallObject] = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls_in(choice.results)
    ]
    said = choice.text
    message: MessageObject = {
        "role": "assistant",
        "content": said if said.strip() or not calls else None,
        "refusal": None,
    }
    if thought:
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls
    return message


def completion_answer(
    head: Head, choices: Sequence[Choice], per_prompt: int, telling: Telling = PLAIN
) -> TextCompletion:
    """OpenAI's `text_completion` object. `per_prompt`: choices of each prompt, in turn."""
    return {
        "id": head.id,
        "object": "text_completion",
        "created": head.created,
        "model": head.model,
        "choices": [
            _completed(index, index // per_prompt, choice, telling)
            for index, choice in enumerate(choices)
        ],
        "usage": usage([shown(choice.finished, telling) for choice in choices], per_prompt),
    }


def _completed(index: int, prompt: int, choice: Choice, telling: Telling) -> TextChoice:
    """A choice of a text completion."""
    text, tokens = "", list[Logprobs]()
    if telling.echo:
        text, tokens = telling.echo[prompt], told_of_prompt(choice.results)
    if telling.written:
        text, tokens = text + choice.text, [*tokens, *told(choice.results)]
    logprobs = None if telling.logprobs is None else CompletionLogprobs(telling).of(tokens)
    finished = shown(choice.finished, telling)
    return {
        "text": text,
        "index": index,
        "logprobs": logprobs,
        "finish_reason": finished.reason.value,
        **_of_prompt(choice, telling),
        **clipped(finished),
    }


class _OfPrompt(TypedDict, total=False):
    """What is told of a prompt, where that was asked for."""

    prompt_logprobs: PromptLogprobs


def _of_prompt(choice: Choice, telling: Telling) -> _OfPrompt:
    if telling.prompt_logprobs is None:
        return {}
    return {"prompt_logprobs": prompt_logprobs(told_of_prompt(choice.results), telling)}


def shown(finished: Finished, telling: Telling) -> Finished:
    """The end of a choice as it is told: of who asked for 0 tokens nothing was written."""
    if telling.written:
        return finished
    usage = dataclasses.replace(finished.usage, completion_tokens=0)
    return dataclasses.replace(finished, reason=FinishReason.LENGTH, usage=usage)


def best(outcomes: Sequence[Choice | Refusal], n: int, of: int) -> list[Choice]:
    """The `n` best of each `of` choices by the mean log-probability of their tokens, the best
    first; one that broke off is not among them.

    Raises:
        Refused: fewer than `n` of a prompt's have ended well.
    """
    chosen: list[Choice] = []
    for begin in range(0, len(outcomes), of):
        group = outcomes[begin : begin + of]
        whole = [one for one in group if isinstance(one, Choice)]
        if len(whole) < n:
            raise Refused(next(one for one in group if isinstance(one, Refusal)))
        chosen += sorted(whole, key=_mean_logprob, reverse=True)[:n]
    return chosen


def usage_of_all(outcomes: Sequence[Choice | Refusal], of: int) -> Usage:
    """The tokens of all choices, `of` to each prompt, whether or not they were chosen."""
    groups = [outcomes[begin : begin + of] for begin in range(0, len(outcomes), of)]
    told = [
        usage([one.finished for one in group if isinstance(one, Choice)], of) for group in groups
    ]
    return {
        "prompt_tokens": sum(one["prompt_tokens"] for one in told),
        "completion_tokens": sum(one["completion_tokens"] for one in told),
        "total_tokens": sum(one["total_tokens"] for one in told),
        "prompt_tokens_details": {
            "cached_tokens": sum(one["prompt_tokens_details"]["cached_tokens"] for one in told)
        },
    }


def _mean_logprob(choice: Choice) -> float:
    end = choice.finished
    return (end.cumulative_logprob or 0.0) / max(1, end.usage.completion_tokens)


def model_object(model: ModelInfo) -> ModelObject:
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
