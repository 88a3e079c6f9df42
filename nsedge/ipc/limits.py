"""The limits that a server grants its clients, in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields

from nsedge.errors import ConfigInvalid

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a server: durations in seconds, sizes in bytes.

    Raises:
        ConfigInvalid: a value that is not positive, or a pair that cannot work.
    """

    heartbeat_s: float = 2.0
    """How often a client pings."""
    liveness_s: float = 10.0
    """A session this long without any message is dropped, its requests cancelled."""
    stall_s: float = 30.0
    """A stream this long without credit while text waits ends with slow_consumer."""
    sweep_s: float = 0.5
    """How often the two above are checked."""
    max_message_bytes: int = MIB
    max_frames: int = 64
    """Payload frames of one message from a client."""
    initial_credit_bytes: int = 64 * KIB
    """A stream's credit where the client names none."""
    max_credit_bytes: int = 256 * KIB
    """The most credit one stream can hold."""
    max_pending_bytes: int = 32 * MIB
    """Results waiting for credit, over all streams of a session; beyond it the stream that holds
    most ends with slow_consumer. A model may give all vectors of a request at once."""
    media_bytes: int = 256 * MIB
    """Of media that are kept by their hash, or on their way; with 0 only what fits a message
    is taken, and none kept."""
    media_credit_bytes: int = 512 * KIB
    """The bytes that an upload may send before it is granted more."""
    audio_credit_bytes: int = 512 * KIB
    """The bytes of sound that a `listen` may have sent and nobody has heard yet."""
    max_uploads: int = 4
    """Unfinished ones of one session."""
    max_sessions: int = 1024
    max_queries: int = 64
    """Unanswered models, stats and health queries of one session."""
    max_unsent_messages: int = 16384
    """Messages queued for one peer; a peer that reads so little is dropped."""

    @property
    def max_media_bytes(self) -> int:
        """The bytes that the media of one request may have together, and so the unfinished uploads
        of one session."""
        return self.media_bytes // 4

    def __post_init__(self) -> None:
        if self.media_bytes < 0:
            raise ConfigInvalid("media_bytes must be at least 0", param="media_bytes")
        for item in fields(self):
            if item.name != "media_bytes" and not getattr(self, item.name) > 0:
                raise ConfigInvalid(f"{item.name} must be above 0", param=item.name)
        if self.liveness_s < 2 * self.heartbeat_s:
            raise ConfigInvalid(
                f"liveness_s {self.liveness_s} must be at least twice heartbeat_s "
                f"{self.heartbeat_s}",
                param="liveness_s",
            )
        if self.initial_credit_bytes > self.max_credit_bytes:
            raise ConfigInvalid(
                f"initial_credit_bytes {self.initial_credit_bytes} is above max_credit_bytes "
                f"{self.max_credit_bytes}",
                param="initial_credit_bytes",
            )
