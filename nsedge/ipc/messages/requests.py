"""What asks for a task to be done, a message each, and what is said of it on its way."""

from __future__ import annotations

from msgspec import Struct

from nsedge.api import Priority, Role, Sampling
from nsedge.ipc.messages.base import ByteCount, Id, Label, Name, SessionKey, TokenId, Wire


class Message(Struct, frozen=True, kw_only=True):
    """One turn of a conversation."""

    role: Role
    content: str


class Asked(Wire, frozen=True, kw_only=True):
    """What every task is asked for with: `nsedge.api.Scheduling`, flat, after three of its own."""

    id: Id
    model: Name
    credit: ByteCount | None = None
    priority: Priority = Priority.NORMAL
    deadline_s: float | None = None
    keep_alive_s: float | None = None
    traceparent: Label | None = None


class Generate(Asked, frozen=True, kw_only=True, tag="generate"):
    """Asks for the continuation of a text."""

    text: str
    sampling: Sampling = Sampling()


class Chat(Asked, frozen=True, kw_only=True, tag="chat"):
    """Asks for the next turn of a conversation."""

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()


class Embed(Asked, frozen=True, kw_only=True, tag="embed"):
    """Asks for a vector of each input; since 1.3."""

    inputs: tuple[str | tuple[TokenId, ...], ...]
    dimensions: int | None = None
    truncate: bool = False


class Credit(Wire, frozen=True, kw_only=True, tag="credit"):
    """Grants a request more bytes."""

    id: Id
    bytes: ByteCount


class Cancel(Wire, frozen=True, kw_only=True, tag="cancel"):
    """Ends a request; legal on both sockets, and harmless where the request is unknown."""

    session: SessionKey
    id: Id
