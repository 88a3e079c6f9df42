"""Every message of the protocol as a type; docs/protocol.md holds the same tables, and a test
holds the two together.

A message is a msgpack map whose `type` is the tag below. Fields that equal their default are left
out; unknown ones are ignored, so a minor version may add to any of them.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from nsedge.api import (
    FinishReason,
    Health,
    LoadResult,
    ModelInfo,
    ModelState,
    Priority,
    Role,
    Sampling,
    Stats,
    Timings,
    Usage,
    UsageReport,
)

SESSION_BYTES = 16

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Label = Annotated[str, Meta(max_length=256)]
SessionKey = Annotated[bytes, Meta(min_length=SESSION_BYTES, max_length=SESSION_BYTES)]
ByteCount = Annotated[int, Meta(ge=0, le=2**53)]
Version = Annotated[str, Meta(pattern=r"^[0-9]{1,4}\.[0-9]{1,4}$")]


class _Wire(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    pass


class Message(Struct, frozen=True, kw_only=True):
    """One turn of a conversation."""

    role: Role
    content: str


# Client to server, data socket.


class Hello(_Wire, frozen=True, kw_only=True, tag="hello"):
    """Opens a session, or opens it anew."""

    protocol: Version
    client: Label = ""


class Generate(_Wire, frozen=True, kw_only=True, tag="generate"):
    """Asks for the continuation of a text."""

    id: Id
    model: Name
    text: str
    sampling: Sampling = Sampling()
    credit: ByteCount | None = None
    traceparent: Label | None = None
    priority: Priority = Priority.NORMAL
    deadline_s: float | None = None
    keep_alive_s: float | None = None


class Chat(_Wire, frozen=True, kw_only=True, tag="chat"):
    """Asks for the next turn of a conversation."""

    id: Id
    model: Name
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    credit: ByteCount | None = None
    traceparent: Label | None = None
    priority: Priority = Priority.NORMAL
    deadline_s: float | None = None
    keep_alive_s: float | None = None


class Credit(_Wire, frozen=True, kw_only=True, tag="credit"):
    """Grants a request more bytes."""

    id: Id
    bytes: ByteCount


class ModelsQuery(_Wire, frozen=True, kw_only=True, tag="models"):
    """Asks what is served."""

    id: Id


class StatsQuery(_Wire, frozen=True, kw_only=True, tag="stats"):
    """Asks for counters and gauges."""

    id: Id


class HealthQuery(_Wire, frozen=True, kw_only=True, tag="health"):
    """Asks whether requests are taken; the control socket answers it without a session."""

    id: Id


class Load(_Wire, frozen=True, kw_only=True, tag="load"):
    """Asks for a model to be in memory."""

    id: Id
    model: Name
    priority: Priority = Priority.NORMAL
    keep_alive_s: float | None = None
    pin: bool | None = None
    exclusive: bool = False
    wait: bool = True


class Unload(_Wire, frozen=True, kw_only=True, tag="unload"):
    """Lets a model leave memory, or all of them."""

    id: Id
    model: Name | None = None
    drain_s: float | None = None


class Reload(_Wire, frozen=True, kw_only=True, tag="reload"):
    """Has a model's bundle read anew."""

    id: Id
    model: Name


class Alias(_Wire, frozen=True, kw_only=True, tag="alias"):
    """Gives a model a further name, or takes it away."""

    id: Id
    alias: Name
    model: Name | None = None


class UsageQuery(_Wire, frozen=True, kw_only=True, tag="usage"):
    """Asks how models have been used, and which are worth loading."""

    id: Id


class Bye(_Wire, frozen=True, kw_only=True, tag="bye"):
    """Closes the session and cancels what it holds."""


# Client to server, control socket.


class Cancel(_Wire, frozen=True, kw_only=True, tag="cancel"):
    """Ends a request; legal on both sockets, and harmless where the request is unknown."""

    session: SessionKey
    id: Id


class Ping(_Wire, frozen=True, kw_only=True, tag="ping"):
    """Says that the client lives."""

    session: SessionKey


Command = Load | Unload | Reload | Alias
Query = ModelsQuery | StatsQuery | HealthQuery | UsageQuery | Command
DataMessage = Hello | Generate | Chat | Credit | Query | Cancel | Bye
ControlMessage = Cancel | Ping | HealthQuery
ClientMessage = DataMessage | Ping


# Server to client.


class Welcome(_Wire, frozen=True, kw_only=True, tag="welcome"):
    """The session is open. The client finds the control socket at its own endpoint with
    `control_suffix` appended (ipc) or `control_port_offset` added to the port (tcp)."""

    protocol: Version
    server: Label
    session: SessionKey
    heartbeat_s: float
    liveness_s: float
    max_message_bytes: int
    initial_credit_bytes: int
    max_credit_bytes: int
    control_suffix: str
    control_port_offset: int


class Loading(_Wire, frozen=True, kw_only=True, tag="loading"):
    """The request waits for its model; since 1.2, to clients that say so in `hello`."""

    id: str
    model: str
    state: ModelState
    position: int
    progress: float


class Started(_Wire, frozen=True, kw_only=True, tag="started"):
    """The prompt is being read."""

    id: str
    prompt_tokens: int
    queue_s: float


class Delta(_Wire, frozen=True, kw_only=True, tag="delta"):
    """A piece of text."""

    id: str
    seq: int
    text: str
    token_ids: tuple[int, ...]


class Finished(_Wire, frozen=True, kw_only=True, tag="finished"):
    """The request ended well."""

    id: str
    reason: FinishReason
    usage: Usage
    timings: Timings
    stop: str | None = None
    clipped_max_tokens: int | None = None


class Failed(_Wire, frozen=True, kw_only=True, tag="failed"):
    """A request was refused or broke off; without `id`, a message was."""

    id: str | None = None
    code: str
    message: str
    retryable: bool
    param: str | None = None
    retry_after_s: float | None = None
    figures: dict[str, int] = {}


class Reply(_Wire, frozen=True, kw_only=True, tag="reply"):
    """The answer to a query: exactly one field besides `id`."""

    id: str
    models: tuple[ModelInfo, ...] | None = None
    health: Health | None = None
    stats: Stats | None = None
    loaded: LoadResult | None = None
    usage: UsageReport | None = None
    error: Failed | None = None


class Pong(_Wire, frozen=True, kw_only=True, tag="pong"):
    """The session of the ping lives."""


ServerMessage = Welcome | Loading | Started | Delta | Finished | Failed | Reply | Pong
