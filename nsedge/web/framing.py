"""How the records of a stream stand on the wire."""

from __future__ import annotations

from dataclasses import dataclass

from nsedge.api import Loading


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """`before` and `after` stand around each record.

    comment: what begins a comment, which readers skip; None where the format has none. Without
    comments a silence cannot be filled, and an answer begins with its first event, however late.
    """

    content_type: str
    before: bytes = b""
    after: bytes = b"\n"
    comment: bytes | None = None

    def record(self, payload: bytes) -> bytes:
        """`payload` as a record."""
        return self.before + payload + self.after

    def remark(self, text: str) -> bytes:
        """`text` as a comment; nothing where there are none."""
        return b"" if self.comment is None else self.comment + text.encode() + self.after

    def silence(self, loading: Loading | None) -> bytes:
        """The comment for a silence: the stream lives; or how far its model is from being there."""
        if loading is None:
            return self.remark("keep-alive")
        coming = f"{loading.position} before it, {loading.progress:.0%} read"
        return self.remark(f"loading {loading.model}, {coming}")


SSE = Framing(
    content_type="text/event-stream; charset=utf-8",
    before=b"data: ",
    after=b"\n\n",
    comment=b": ",
)
"""Server-sent events."""
NDJSON = Framing(content_type="application/x-ndjson; charset=utf-8")
"""A JSON object a line."""
