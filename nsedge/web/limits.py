"""What the web shim allows: sizes, times, and who may talk to it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from nsedge.errors import ConfigInvalid

MAY_BE_ZERO = frozenset({"drain_s", "max_waiting", "requests_per_minute", "tokens_per_minute"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WebLimits:
    """The shim's settings; every number must be above zero, but for those that `MAY_BE_ZERO`.

    - max_body_bytes: of a request's body; max_header_bytes: of its first line, and of each header.
    - max_upload_bytes: of a form's body, which may bring files.
    - body_timeout_s: for the whole body to arrive; for a longer one than 4 MiB, for each 4 MiB.
    - max_messages: of one conversation; max_prompt_chars: of all its texts, or prompts, together.
    - max_choices: n times the number of prompts.
    - keepalive_s: of silence before a comment line is written to a stream.
    - write_timeout_s: a stream whose reader takes nothing for so long is cut.
    - idle_timeout_s: a connection without a complete request head is closed after so long.
    - drain_s: what running answers get to end by themselves at shutdown.
    - core_timeout_s: for the core to answer for its health or its models.
    - max_connections: open at once.
    - max_in_flight: choices of one answer that the core has at once, and, where keys are asked for,
      requests of one model; max_waiting: of one key that wait for their turn (may be zero).
    - requests_per_minute, tokens_per_minute: of one key; zero is no limit.
    - allow_anonymous, allow_cleartext: listen beyond loopback without keys, or without TLS.
    - allowed_hosts: names, beyond loopback's own, that a Host header may carry on loopback.
    - ignored_fields: of request bodies, left out instead of refused.
    - cors_origins: origins whose pages may call the shim, compared exactly.
    """

    max_body_bytes: int = 4 * 1024 * 1024
    max_upload_bytes: int = 64 * 1024 * 1024
    max_header_bytes: int = 8190
    body_timeout_s: float = 10.0
    max_messages: int = 1024
    max_prompt_chars: int = 1_000_000
    max_choices: int = 128
    keepalive_s: float = 10.0
    write_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0
    drain_s: float = 20.0
    core_timeout_s: float = 2.0
    max_connections: int = 1000
    max_in_flight: int = 32
    max_waiting: int = 1024
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    allow_anonymous: bool = False
    allow_cleartext: bool = False
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    ignored_fields: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse what could never work, or would open the shim to every page.

        Raises:
            ConfigInvalid: naming the setting.
        """
        for setting in fields(self):
            value = getattr(self, setting.name)
            if isinstance(value, tuple | bool):
                continue
            enough = value >= 0 if setting.name in MAY_BE_ZERO else value > 0
            if not (enough and math.isfinite(value)):
                raise ConfigInvalid(
                    f"{setting.name} must be above 0, not {value}", param=setting.name
                )
        for origin in self.cors_origins:
            if origin in ("*", "null") or "://" not in origin or origin.endswith("/"):
                raise ConfigInvalid(
                    f"cors_origins: {origin!r} is not an origin such as http://localhost:5173",
                    param="cors_origins",
                )
