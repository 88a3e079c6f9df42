"""llama-server's request bodies -> `Request`s; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from nsedge.api import Generate, Request, Sampling
from nsedge.errors import InvalidParameter
from nsedge.web.doors.llama_server.bodies import InfillBody, WritingBody
from nsedge.web.limits import WebLimits
from nsedge.web.request_fields import check_length, scheduling
from nsedge.web.sampling_fields import sampling

_OURS = {"max_tokens": "n_predict", "logprobs": "n_probs"}
"""Our names of parameters, and those that clients set them by."""


def gap_of(body: InfillBody, limits: WebLimits) -> tuple[str, str]:
    """What stands before the gap that is to be filled, with what was typed in it, and after it.

    Raises:
        InvalidParameter, MessageTooLarge: naming the field and the limit.
    """
    if body.input_extra:
        raise InvalidParameter("input_extra is not supported here", param="input_extra")
    before = body.input_prefix + (body.prompt or "")
    check_length(len(before) + len(body.input_suffix), limits, "input_prefix")
    return before, body.input_suffix


def requests_of(
    body: WritingBody, tasks: Sequence[Generate], *, model: str, request_id: str
) -> tuple[Request, ...]:
    """A request for each of `tasks`. Raises InvalidParameter for values out of range."""
    requests = [
        Request(
            request_id=request_id if len(tasks) == 1 else f"{request_id}/{number}",
            model=model,
            task=task,
            **scheduling(body),
        )
        for number, task in enumerate(tasks)
    ]
    for request in requests:
        request.check()
    return tuple(requests)


def sampling_of(body: WritingBody) -> Sampling:
    """The sampling that a body asks for; what goes beyond the context ends with it, as at
    llama-server.

    Raises:
        InvalidParameter: naming the field as the body wrote it.
    """
    if body.max_tokens is not None and body.n_predict is not None:
        raise InvalidParameter("n_predict and max_tokens are the same: give one", param="n_predict")
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
        return replace(sampling(fields, logprobs=body.n_probs or None), clip_max_tokens=True)
    except InvalidParameter as error:
        theirs = _OURS.get(error.param or "", "")
        if not theirs or getattr(body, theirs) is None:
            raise
        message = error.message.replace(error.param or "", theirs, 1)
        raise InvalidParameter(message, param=theirs) from error
