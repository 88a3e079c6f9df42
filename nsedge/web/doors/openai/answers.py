"""OpenAI's answers in one piece; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nsedge.api import ModelInfo
from nsedge.web.choices import Choice
from nsedge.web.doors.openai.logprobs import PLAIN, CompletionLogprobs, Telling, chat_logprobs
from nsedge.web.logprobs import told
from nsedge.web.said import calls_in, thoughts_in
from nsedge.web.usage import clipped, usage

OWNER = "nsedge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What every chunk of one answer repeats. created: seconds since the Unix epoch."""

    id: str
    created: int
    model: str


def chat_answer(
    head: Head, choices: Sequence[Choice], per_prompt: int, telling: Telling = PLAIN
) -> dict[str, Any]:
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
                    chat_logprobs(told(choice.results), telling) if telling.logprobs else None
                ),
                "finish_reason": choice.finished.reason.value,
                **clipped(choice.finished),
            }
            for index, choice in enumerate(choices)
        ],
        "usage": usage([choice.finished for choice in choices], per_prompt),
    }


def message_of(choice: Choice) -> dict[str, Any]:
    """What the assistant said, thought and called; null where it said nothing but calls."""
    thought = thoughts_in(choice.results)
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls_in(choice.results)
    ]
    said = choice.text
    message: dict[str, Any] = {
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
) -> dict[str, Any]:
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
                "logprobs": (
                    CompletionLogprobs(telling).of(told(choice.results))
                    if telling.logprobs
                    else None
                ),
                "finish_reason": choice.finished.reason.value,
                **clipped(choice.finished),
            }
            for index, choice in enumerate(choices)
        ],
        "usage": usage([choice.finished for choice in choices], per_prompt),
    }


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
