"""How much of uploads is in memory at once, of all requests together; pure."""

from __future__ import annotations

from aiohttp import web

from nsedge.errors import Unavailable

AT_ONCE = 4
"""Of the largest uploads."""
RETRY_S = 1.0


class UploadRoom:
    """Counts the bytes of uploads, from their coming until their request is answered."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0

    def take(self, http: web.Request, size: int) -> None:
        """Have room for `size` more bytes of the request `http`.

        Raises:
            Unavailable: others have it.
        """
        if self.used_bytes + size > self.budget_bytes:
            raise Unavailable(
                f"uploads of {self.used_bytes} bytes are here already; try again",
                retry_after_s=RETRY_S,
            )
        self.used_bytes += size
        http[_HELD] = http.get(_HELD, 0) + size

    def give_back(self, http: web.Request) -> None:
        """The request `http` is answered."""
        self.used_bytes -= http.get(_HELD, 0)


_HELD = web.RequestKey("upload_bytes", int)
