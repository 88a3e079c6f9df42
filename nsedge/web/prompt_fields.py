"""The prompts of a body that continues texts: a text, texts, the tokens of one text, or those of
several; pure."""

from __future__ import annotations

from typing import Annotated, Any

from nsedge.api import Generate
from nsedge.api.inputs import MAX_TOKEN_ID, Tokens
from nsedge.errors import EmptyPrompt, InvalidParameter
from nsedge.web.hints import hint
from nsedge.web.integers import integer_of
from nsedge.web.limits import WebLimits
from nsedge.web.request_fields import check_length

Prompt = str | Tokens
_TEXT = {"type": "string", "minLength": 1}
_TOKENS = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID},
}
TEXTS = {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": _TEXT}]}
"""The schema of prompts that are texts."""
PromptField = (
    Annotated[str, hint(minLength=1)]
    | Annotated[
        list[Any], hint(minItems=1, anyOf=[_TOKENS, {"items": {"anyOf": [_TEXT, _TOKENS]}}])
    ]
)
"""What a body has: the prompts themselves, or their tokens."""


def prompts_of(given: str | list[Any], limits: WebLimits) -> list[Prompt]:
    """The prompts, each answered by itself.

    Raises:
        InvalidParameter, EmptyPrompt, MessageTooLarge: naming `prompt` and the limit.
    """
    prompts: list[Prompt]
    if isinstance(given, str):
        prompts = [given]
    elif (tokens := _tokens(given)) is not None:
        prompts = [tokens]
    else:
        prompts = [_one(number, one) for number, one in enumerate(given)]
    if not prompts:
        raise EmptyPrompt("prompt is empty", param="prompt")
    check_length(sum(map(len, prompts)), limits, "prompt")
    return prompts


def task_of(prompt: Prompt, **fields: Any) -> Generate:
    """What continues a prompt; `fields` are the others of the task."""
    if isinstance(prompt, str):
        return Generate(text=prompt, **fields)
    return Generate(token_ids=prompt, **fields)


def _one(number: int, given: Any) -> Prompt:
    if isinstance(given, str):
        return given
    if isinstance(given, list) and (tokens := _tokens(given)) is not None:
        return tokens
    raise InvalidParameter(
        f"prompt[{number}] must be a text, or an array of token ids; texts and single ids do not"
        " stand beside each other",
        param="prompt",
    )


def _tokens(given: list[Any]) -> Tokens | None:
    """Token ids, one at least; None where one is none."""
    ids = [integer_of(one) for one in given]
    known = tuple(one for one in ids if one is not None and 0 <= one <= MAX_TOKEN_ID)
    return known if known and len(known) == len(given) else None
