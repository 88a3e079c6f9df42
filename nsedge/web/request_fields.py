"""Fields that every body which asks for text may have, and what they ask for; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from nsedge.api import (
    Chat,
    Constraint,
    Generate,
    MediaPart,
    Message,
    ModelInfo,
    Priority,
    Role,
    Sampling,
    TextPart,
)
from nsedge.api.messages import FPS, FRAMES
from nsedge.api.models import keep_alive_of
from nsedge.api.scheduling import MAX_DEADLINE_S, Scheduling, SchedulingFields
from nsedge.errors import InvalidParameter, MessageTooLarge
from nsedge.web.bodies import Integer
from nsedge.web.hints import between, hint, one_of
from nsedge.web.limits import WebLimits

PriorityField = Annotated[str, one_of(Priority)] | Integer
"""A class by name; or, as vLLM has it, a number, of which the lower goes first."""
_DURATION = "([0-9]+([.][0-9]+)?[smhd]?)+"
KeepAlive = Annotated[str, hint(pattern=f"^(forever|now|-?{_DURATION})$")] | float
"""How long a model stays in memory unused: seconds, `5m`, `forever`, `now`."""

Fps = Annotated[float, between(FPS)]
"""Of a film, how many frames a second are looked at."""
Frames = Annotated[Integer, between(FRAMES)]
"""Of a film, how many frames at most; alone, spread over all of it."""


class SchedulingBody(msgspec.Struct, kw_only=True):
    """How a body says when its request is to run, and what follows from it."""

    priority: PriorityField | None = None
    deadline_s: Annotated[float, hint(exclusiveMinimum=0, maximum=MAX_DEADLINE_S)] | None = None
    keep_alive: KeepAlive | None = None


def scheduling(body: SchedulingBody) -> SchedulingFields:
    """How the request is to be scheduled, as far as a body says.

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


def check_scheduling(body: SchedulingBody) -> None:
    """Refuse what a body says of scheduling, where no request comes to be that would be checked.

    Raises:
        InvalidParameter: naming the field.
    """
    Scheduling(**scheduling(body)).check()


def spoken(
    text: str,
    model: ModelInfo,
    sampling: Sampling,
    *,
    constraint: Constraint | None = None,
    raw: bool = False,
    media: Sequence[MediaPart] = (),
) -> Generate | Chat:
    """`text` as what a user says, where the model has a chat template; else, or where `raw`, as
    what is to be continued. `media` stand before it, and are always said by a user."""
    if not media and (raw or not model.has_chat_template):
        return Generate(text=text, sampling=sampling, constraint=constraint)
    said = Message(role=Role.USER, content=(*media, TextPart(text=text)) if media else text)
    return Chat(messages=(said,), sampling=sampling, constraint=constraint)


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
