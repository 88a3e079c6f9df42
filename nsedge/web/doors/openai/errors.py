"""OpenAI's error object."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

import msgspec

from nsedge.web.doors.openai.shapes import ErrorBody
from nsedge.web.errors import Refusal

INVALID = "invalid_request_error"
RATE = "rate_limit_error"
SERVER = "server_error"
NAMES = {
    "context_exceeded": "context_length_exceeded",
    "unknown_model": "model_not_found",
    "rate_limited": "rate_limit_exceeded",
}
"""OpenAI's own names of codes, where clients match them."""
_CONTEXT = {"context_tokens", "prompt_tokens"}
_PROMPTS = ("prompt", "inputs")
"""Where the core's own names of parameters say it was."""


def type_of(status: int) -> str:
    """OpenAI's type of an error with `status`."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RATE
    return INVALID if status < HTTPStatus.INTERNAL_SERVER_ERROR else SERVER


def error_body(refusal: Refusal) -> bytes:
    """The error object that tells of `refusal`, all four fields."""
    told = ErrorBody(
        error={
            "message": refusal.message,
            "type": type_of(refusal.status),
            "param": refusal.param,
            "code": NAMES.get(refusal.code, refusal.code),
        }
    )
    return msgspec.json.encode(told)


def reworded(refusal: Refusal, prompt: str) -> Refusal:
    """`refusal`, where the field that OpenAI's clients gave the prompt in is called `prompt`.

    One that the context is too short begins as OpenAI's own: clients tell it by that.
    """
    if refusal.code == "context_exceeded" and refusal.figures.keys() >= _CONTEXT:
        return replace(refusal, message=_overflow(refusal.figures, prompt), param=prompt)
    return replace(refusal, param=prompt) if refusal.param in _PROMPTS else refusal


def _overflow(figures: dict[str, int], prompt: str) -> str:
    context, prompted = figures["context_tokens"], figures["prompt_tokens"]
    if wished := figures.get("max_tokens"):
        told = (
            f"you requested {prompted + wished} tokens ({prompted} in the {prompt}, {wished} in the"
            " completion)"
        )
        shorter = f"{prompt} or completion"
    else:
        answer = ", and the answer needs one at least" if prompted == context else ""
        told, shorter = f"your {prompt} resulted in {prompted} tokens{answer}", prompt
    if media := figures.get("media"):
        told += f", with what was made of {media} media in the {prompt}"
    return (
        f"This model's maximum context length is {context} tokens. However, {told}."
        f" Please reduce the length of the {shorter}."
    )
