"""Events to messages and back: one table, and a shorter way for the busiest of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nsedge import api
from nsedge.errors import NsedgeError
from nsedge.ipc import messages as wire
from nsedge.ipc import protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one kind of event travels.

    - event, message: its two types, which have the same fields but for `request_id` and `id`.
    - since: the minor version of the protocol that brought it.
    - credited: its frames take their length off the request's credit, and wait where there is none.
    """

    event: Any
    message: Any
    since: int = 0
    credited: bool = False
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = tuple(name for name in self.message.__struct_fields__ if name != "id")
        object.__setattr__(self, "names", names)

    def message_of(self, event: Any) -> Any:
        """The message that tells of an event of this kind."""
        fields = {name: getattr(event, name) for name in self.names}
        return self.message(id=event.request_id, **fields)

    def event_of(self, message: Any) -> Any:
        """The event that a message of this kind carries."""
        fields = {name: getattr(message, name) for name in self.names}
        return self.event(request_id=message.id, **fields)

    @property
    def tag(self) -> str:
        """The `type` of its messages."""
        return str(self.message.__struct_config__.tag)


KINDS = (
    Kind(event=api.Loading, message=wire.Loading, since=2),
    Kind(event=api.MediaRead, message=wire.MediaRead, since=6, credited=True),
    Kind(event=api.Started, message=wire.Started),
    Kind(event=api.PromptLogprobs, message=wire.PromptLogprobs, since=4, credited=True),
    Kind(event=api.Delta, message=wire.Delta, credited=True),
    Kind(event=api.ReasoningDelta, message=wire.ReasoningDelta, since=4, credited=True),
    Kind(event=api.ToolCallDelta, message=wire.ToolCallDelta, since=4, credited=True),
    Kind(event=api.ChoiceFinished, message=wire.ChoiceFinished, since=4, credited=True),
    Kind(event=api.ChoiceFailed, message=wire.ChoiceFailed, since=4, credited=True),
    Kind(event=api.Vectors, message=wire.Vectors, since=3, credited=True),
    Kind(event=api.Scores, message=wire.Scores, since=3, credited=True),
    Kind(event=api.Language, message=wire.Language, since=5, credited=True),
    Kind(event=api.Labels, message=wire.Labels, since=5, credited=True),
    Kind(event=api.Fillings, message=wire.Fillings, since=5, credited=True),
    Kind(event=api.Segment, message=wire.Segment, since=3, credited=True),
    Kind(event=api.Activity, message=wire.Activity, since=6, credited=True),
    Kind(event=api.Committed, message=wire.Committed, since=6, credited=True),
    Kind(event=api.Picture, message=wire.Picture, since=6, credited=True),
    Kind(event=api.Preview, message=wire.Preview, since=6, credited=True),
    Kind(event=api.Progress, message=wire.Progress, since=3),
    Kind(event=api.ArtifactPending, message=wire.ArtifactPending, since=3, credited=True),
    Kind(event=api.ArtifactReady, message=wire.ArtifactReady, since=3, credited=True),
    Kind(event=api.Finished, message=wire.Finished),
    Kind(event=api.Failed, message=wire.Failed),
)
OF_EVENT: dict[type, Kind] = {kind.event: kind for kind in KINDS}
OF_MESSAGE: dict[type, Kind] = {kind.message: kind for kind in KINDS}
CREDITED = frozenset(kind.event for kind in KINDS if kind.credited)
"""The types of events that cost credit."""


def encode_event(event: api.Event) -> bytes:
    """The payload frame of an event."""
    if isinstance(event, api.Delta):
        return encode_delta(event)
    return protocol.encode(message_of(event))


def encode_delta(event: api.Delta) -> bytes:
    """The payload frame of a piece of text; apart from the others, since it is the busiest."""
    if event.logprobs or event.choice:
        return protocol.encode(message_of(event))
    return protocol.pack(
        {
            "type": "delta",
            "id": event.request_id,
            "seq": event.seq,
            "text": event.text,
            "token_ids": event.token_ids,
        }
    )


def message_of(event: api.Event) -> wire.EventMessage:
    """The message that tells of an event."""
    message: wire.EventMessage = OF_EVENT[type(event)].message_of(event)
    return message


def event_of(message: wire.EventMessage) -> api.Event:
    """The event that a message carries."""
    if isinstance(message, wire.Delta):
        return api.Delta(
            request_id=message.id,
            seq=message.seq,
            text=message.text,
            token_ids=message.token_ids,
            logprobs=message.logprobs,
            choice=message.choice,
        )
    event: api.Event = OF_MESSAGE[type(message)].event_of(message)
    return event


def failed_of(request_id: str | None, error: NsedgeError) -> wire.Failed:
    """The message that tells of an error."""
    failure: wire.Failed = OF_EVENT[api.Failed].message_of(api.Failed.of(request_id, error))
    return failure


def error_of(message: wire.Failed) -> NsedgeError:
    """The error that a failure message tells of, to be raised on the client's side."""
    failed: api.Failed = OF_MESSAGE[wire.Failed].event_of(message)
    return failed.error()


def tag_of(event: api.Event) -> str:
    """The protocol's name of an event of this kind."""
    return OF_EVENT[type(event)].tag


def continues(first: api.AnyDelta, event: api.Event) -> bool:
    """Whether `event` can be told as more of `first`."""
    if not isinstance(event, api.AnyDelta) or event.choice != first.choice:
        return False
    if isinstance(event, api.ToolCallDelta):
        same_call = isinstance(first, api.ToolCallDelta) and first.index == event.index
        return same_call and event.call_id is None
    return type(event) is type(first)


def merge(deltas: Sequence[api.AnyDelta]) -> api.AnyDelta:
    """One for several of a request that continue the first: what they say and their ids joined,
    `seq` of the first."""
    first = deltas[0]
    if len(deltas) == 1:
        return first
    ids = tuple(token for delta in deltas for token in delta.token_ids)
    logprobs = tuple(one for delta in deltas for one in delta.logprobs)
    joined = replace(first, token_ids=ids, logprobs=logprobs)
    if isinstance(joined, api.ToolCallDelta):
        calls = [delta for delta in deltas if isinstance(delta, api.ToolCallDelta)]
        return replace(joined, arguments="".join(one.arguments for one in calls))
    texts = [delta for delta in deltas if not isinstance(delta, api.ToolCallDelta)]
    return replace(joined, text="".join(one.text for one in texts))
