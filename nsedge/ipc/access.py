"""Who may reach a server, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

from nsedge.ipc.curve import ServerCurve
from nsedge.ipc.socket_files import Permit


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The checks before each kind of socket.

    - permit: of socket files.
    - curve: for every tcp endpoint; None is clear text.
    - allow_cleartext: bind tcp addresses other than loopback without CURVE.
    """

    permit: Permit = field(default_factory=Permit)
    curve: ServerCurve | None = None
    allow_cleartext: bool = False
