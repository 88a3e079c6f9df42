"""Media on their way to the daemon: given with a request where they fit, else sent before it in
pieces, and from then on named by their hash."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from nsedge import api
from nsedge.errors import MessageTooLarge, NsedgeError, UnsupportedVersion
from nsedge.ipc import messages as wire
from nsedge.ipc import protocol
from nsedge.ipc.requests import check_size, encode_request, media_of

PIECE_BYTES = 256 << 10
FIELDS_BYTES = 512
"""More than what stands around the data of a piece or a part."""
SINCE = 3
"""The minor version that brought media."""
MAX_KNOWN = 4096
"""Hashes that are remembered."""


class Line(Protocol):
    """How a carrier speaks to the daemon."""

    def send(self, *messages: wire.ClientMessage) -> None:
        """Send messages."""

    def send_frames(self, *payloads: bytes) -> None:
        """Send what is encoded already."""


@dataclass(eq=False, slots=True, kw_only=True)
class _Upload:
    """One that is under way. `moved` is set when it has more credit, or has ended."""

    granted: int
    ended: bool = False
    error: NsedgeError | None = None
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, error: NsedgeError | None = None) -> None:
        """It is there, or failed."""
        self.ended, self.error = True, error
        self.moved.set()


class Carrier:
    """Brings media over one connection, one after the other."""

    def __init__(
        self,
        *,
        line: Line,
        welcome: wire.Welcome,
        new_id: Callable[[], str],
    ) -> None:
        self._line = line
        self._welcome = welcome
        self._new_id = new_id
        self._there: dict[str, None] = {}
        """Hashes of what this connection has brought, the latest last; it may have left again."""
        self._turn = asyncio.Lock()
        self._uploads: dict[str, _Upload] = {}
        self._lost: NsedgeError | None = None

    async def send(self, request: api.Request, *, credit: int | None) -> None:
        """Send `request`, once what does not fit it is there.

        Raises:
            UnsupportedVersion: the daemon takes no media.
            MessageTooLarge: more than it takes.
            NsedgeError: what it refused an upload with.
        """
        request.check()
        if protocol.minor_of(self._welcome.protocol) < SINCE:
            raise UnsupportedVersion(
                f"media need a daemon of protocol 1.{SINCE}, not {self._welcome.protocol}",
                param="messages",
            )
        media = await asyncio.to_thread(_by_hash, media_of(request))
        large = self._too_large(request, media)
        self._check_size(sum(len(media[sha256].data) for sha256 in large))
        for sha256 in large:
            await self._bring(media[sha256])
        frame = encode_request(request, credit=credit, named={*self._there, *large})
        check_size(frame, self._welcome.max_message_bytes)
        self._remember(media)
        self._line.send_frames(frame)

    def forget(self, media: Iterable[api.Media]) -> None:
        """These are not there any more."""
        for one in media:
            self._there.pop(one.sha256, None)

    def hear(self, message: wire.Credit | wire.MediaReady) -> None:
        """Take the daemon's word on an upload."""
        upload = self._uploads.get(message.id)
        if upload is None:
            return
        if isinstance(message, wire.MediaReady):
            upload.end()
        else:
            upload.granted += message.bytes
            upload.moved.set()

    def fail(self, label: str, error: NsedgeError) -> None:
        """The upload `label`, if there is one, has failed."""
        if label in self._uploads:
            self._uploads[label].end(error)

    def lose(self, error: NsedgeError) -> None:
        """The connection is lost, and all that waits for it."""
        self._lost = error
        for upload in self._uploads.values():
            upload.end(error)

    def _remember(self, hashes: Iterable[str]) -> None:
        for sha256 in hashes:
            self._there.pop(sha256, None)
            self._there[sha256] = None
        while len(self._there) > MAX_KNOWN:
            del self._there[next(iter(self._there))]

    def _too_large(self, request: api.Request, media: dict[str, api.Media]) -> list[str]:
        """The hashes of what is not there, and does not fit the request beside the rest."""
        bare = encode_request(request, named=media)
        room = self._welcome.max_message_bytes - len(protocol.MAGIC) - len(bare)
        shown = Counter(one.sha256 for one in media_of(request))
        large = []
        for sha256, count in shown.items():
            if sha256 in self._there:
                continue
            size = count * (len(media[sha256].data) + FIELDS_BYTES)
            if size <= room:
                room -= size
            else:
                large.append(sha256)
        return large

    def _check_size(self, size: int) -> None:
        most = self._welcome.max_media_bytes
        if size > most:
            raise MessageTooLarge(
                f"media of {size} bytes; the daemon takes {most} for one request", param="messages"
            )

    async def _bring(self, media: api.Media) -> None:
        async with self._turn:
            if media.sha256 not in self._there:  # else another request has brought it meanwhile
                await self._upload(media)
                self._remember([media.sha256])

    async def _upload(self, media: api.Media) -> None:
        if self._lost is not None:
            raise self._lost
        label, upload = self._new_id(), _Upload(granted=self._welcome.media_credit_bytes)
        self._uploads[label] = upload
        offset = 0
        try:
            while not upload.ended:
                piece = self._piece(label, media, offset, upload.granted)
                if piece.data:
                    self._line.send(piece)
                    offset += len(piece.data)
                else:
                    upload.moved.clear()
                    await upload.moved.wait()
        finally:
            del self._uploads[label]
            if not upload.ended:  # whoever wanted it has left
                self._line.send(wire.Cancel(session=self._welcome.session, id=label))
        if upload.error is not None:
            raise upload.error

    def _piece(self, label: str, media: api.Media, offset: int, granted: int) -> wire.MediaPut:
        """The next piece from `offset` on, empty where none may be sent."""
        most = min(PIECE_BYTES, max(1, self._welcome.max_message_bytes - FIELDS_BYTES))
        return wire.MediaPut(
            id=label,
            sha256=media.sha256,
            size=len(media.data),
            offset=offset,
            data=media.data[offset : min(granted, offset + most)],
        )


def _by_hash(media: Iterable[api.Media]) -> dict[str, api.Media]:
    return {one.sha256: one for one in media}
