"""llama-server's request bodies -> `Request`s; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from nsedge.api import ExtraFile, Generate, Request, Sampling
from nsedge.api.tasks import MAX_FILES
from nsedge.errors import InvalidParameter
from nsedge.web.constraint_fields import constraint
from nsedge.web.doors.llama_server.bodies import InfillBody, WritingBody
from nsedge.web.limits import WebLimits
from nsedge.web.request_fields import check_length, scheduling
from nsedge.web.sampling_fields import sampling

_OURS = {"max_tokens": "n_predict", "logprobs": "n_probs"}
"""Our names of parameters, and those that clients set them by."""


def gap_of(body: InfillBody, limits: WebLimits) -> Generate:
    """A gap to be filled: what stands before it, with what was typed in it, after it, and beside.

    Raises:
        InvalidParameter, MessageTooLarge: naming the field and the limit.
    """
    before = body.input_prefix + (body.prompt or "")
    check_length(len(before) + len(body.input_suffix), limits, "input_prefix")
    files = tuple(ExtraFile(name=one.filename, text=one.text) for one in body.input_extra or ())
    if len(files) > MAX_FILES:
        raise InvalidParameter(
            f"{len(files)} files are beyond the limit of {MAX_FILES}", param="input_extra"
        )
    check_length(sum(len(one.name) + len(one.text) for one in files), limits, "input_extra")
    return Generate(
        text=before,
        suffix=body.input_suffix,
        extra_files=files,
        sampling=sampling_of(body),
        constraint=constraint(body),
    )


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
    if body.n is not None and body.n_cmpl is not None:
        raise InvalidParameter("n_cmpl and n are the same: give one", param="n_cmpl")
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
        wanted = sampling(fields, logprobs=body.n_probs or None)
        return replace(wanted, clip_max_tokens=True, n=body.n_cmpl or body.n or 1)
    except InvalidParameter as error:
        theirs = _OURS.get(error.param or "", "")
        if not theirs or getattr(body, theirs) is None:
            raise
        message = error.message.replace(error.param or "", theirs, 1)
        raise InvalidParameter(message, param=theirs) from error
