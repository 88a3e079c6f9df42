"""llama-server's request bodies -> `Request`s; pure."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from nsedge.api import Generate, Request, Sampling
from nsedge.errors import EmptyPrompt, InvalidParameter
from nsedge.web.constraint_fields import constraint
from nsedge.web.doors.llama_server.bodies import CompletionBody
from nsedge.web.limits import WebLimits
from nsedge.web.request_fields import check_length, scheduling
from nsedge.web.sampling_fields import sampling

_OURS = {"max_tokens": "n_predict"}
"""Our names of parameters, and those that clients set them by."""


def prompts_of(body: CompletionBody, limits: WebLimits) -> list[str]:
    """The texts to continue, each answered by itself.

    Raises:
        InvalidParameter, EmptyPrompt, MessageTooLarge: naming the field and the limit.
    """
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if not prompts:
        raise EmptyPrompt("prompt is empty", param="prompt")
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise InvalidParameter(
            "prompt must be a string or an array of strings; token ids are not supported",
            param="prompt",
        )
    if len(prompts) > limits.max_choices:
        raise InvalidParameter(
            f"{len(prompts)} prompts are beyond the limit of {limits.max_choices}", param="prompt"
        )
    check_length(sum(map(len, prompts)), limits, "prompt")
    return prompts


def completion_requests(
    body: CompletionBody, prompts: list[str], wanted: Sampling, *, model: str, request_id: str
) -> tuple[Request, ...]:
    """A request for each of `prompts`. Raises InvalidParameter for values out of range."""
    held = constraint(body)
    requests = [
        Request(
            request_id=request_id if len(prompts) == 1 else f"{request_id}/{number}",
            model=model,
            task=Generate(text=prompt, sampling=wanted, constraint=held),
            **scheduling(body),
        )
        for number, prompt in enumerate(prompts)
    ]
    for request in requests:
        request.check()
    return tuple(requests)


def sampling_of(body: CompletionBody) -> Sampling:
    """The sampling that a body asks for; what goes beyond the context ends with it, as at
    llama-server.

    Raises:
        InvalidParameter: naming the field as the body wrote it.
    """
    for ours, theirs in _OURS.items():
        if getattr(body, ours) is not None and getattr(body, theirs) is not None:
            raise InvalidParameter(f"{theirs} and {ours} are the same: give one", param=theirs)
    fields = msgspec.structs.replace(body)
    if body.n_predict is not None:
        if body.n_predict == 0:
            raise InvalidParameter(
                "n_predict 0 is not supported: an answer has a token", param="n_predict"
            )
        fields.max_tokens = None if body.n_predict < 0 else body.n_predict
    if body.seed == -1:
        fields.seed = None
    try:
        return replace(sampling(fields), clip_max_tokens=True)
    except InvalidParameter as error:
        theirs = _OURS.get(error.param or "", "")
        if not theirs or getattr(body, theirs) is None:
            raise
        message = error.message.replace(error.param or "", theirs, 1)
        raise InvalidParameter(message, param=theirs) from error
