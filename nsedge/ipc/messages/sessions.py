"""A session: opened, kept alive, closed."""

from __future__ import annotations

from nsedge.ipc.messages.base import Label, SessionKey, Version, Wire


class Hello(Wire, frozen=True, kw_only=True, tag="hello"):
    """Opens a session, or opens it anew."""

    protocol: Version
    client: Label = ""


class Bye(Wire, frozen=True, kw_only=True, tag="bye"):
    """Closes the session and cancels what it holds."""


class Ping(Wire, frozen=True, kw_only=True, tag="ping"):
    """Says that the client lives."""

    session: SessionKey


class Welcome(Wire, frozen=True, kw_only=True, tag="welcome"):
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
    max_media_bytes: int = 0
    media_credit_bytes: int = 0
    audio_credit_bytes: int = 0


class Pong(Wire, frozen=True, kw_only=True, tag="pong"):
    """The session of the ping lives."""
