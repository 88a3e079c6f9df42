"""Media on their way in, piece by piece: what a session may send ahead, and what it has sent.

Values in, messages out; no sockets, no clock. Room for the whole is reserved with the first piece.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field

from nsedge.errors import (
    InvalidParameter,
    MessageTooLarge,
    NsedgeError,
    OutOfOrder,
    Unavailable,
    UploadStalled,
)
from nsedge.ipc import messages as wire
from nsedge.ipc.events import failed_of
from nsedge.ipc.limits import Limits
from nsedge.ipc.media import RETRY_S, MediaStore


@dataclass(eq=False, slots=True, kw_only=True)
class Upload:
    """One medium, as far as it is here. granted: bytes that may have been sent by now."""

    sha256: str
    size: int
    owner: str
    granted: int
    last_s: float
    received: int = 0
    _buffer: io.BytesIO = field(default_factory=io.BytesIO)
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, piece: wire.MediaPut) -> None:
        """Take the next piece.

        Raises:
            OutOfOrder: it is not the next, or beyond the credit.
            InvalidParameter: it is of something else, or the whole is too long.
        """
        end = self.received + len(piece.data)
        if (piece.sha256, piece.size) != (self.sha256, self.size):
            raise InvalidParameter("the pieces are of different media", param="sha256")
        if piece.offset != self.received:
            raise OutOfOrder(
                f"the next piece is at {self.received}, not {piece.offset}", param="offset"
            )
        if end > self.size:
            raise InvalidParameter(f"more than the {self.size} bytes it said", param="data")
        if end > self.granted:
            raise OutOfOrder(f"{end} bytes are beyond the credit of {self.granted}", param="data")
        self._buffer.write(piece.data)
        self._digest.update(piece.data)
        self.received = end

    def whole(self) -> bytes:
        """All of it.

        Raises:
            InvalidParameter: it has another hash than it said.
        """
        if self._digest.hexdigest() != self.sha256:
            raise InvalidParameter("the media do not have this SHA-256", param="sha256")
        return self._buffer.getvalue()


class Uploads:
    """The unfinished uploads of a session, by id."""

    def __init__(self, store: MediaStore, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._live: dict[str, Upload] = {}

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, label: str) -> bool:
        return label in self._live

    def put(
        self, piece: wire.MediaPut, *, owner: str, now_s: float
    ) -> wire.Credit | wire.MediaReady | None:
        """Take a piece that `owner` sent; the answer, if there is one. What follows an upload that
        has ended is ignored, since it may have been on its way.

        Raises:
            NsedgeError: what ends this upload, or lets it not begin.
        """
        upload = self._live.get(piece.id)
        if upload is None:
            if piece.offset:
                return None
            if self._store.has(piece.sha256, owner):
                return wire.MediaReady(id=piece.id, sha256=piece.sha256)
            upload = self._begin(piece, owner, now_s)
        try:
            upload.add(piece)
            if upload.received == upload.size:
                return self._finish(piece.id, upload)
        except NsedgeError:
            self.drop(piece.id)
            raise
        if piece.data:
            upload.last_s = now_s
        return self._grant(piece.id, upload)

    def drop(self, label: str) -> None:
        """Forget an upload, if there is one."""
        upload = self._live.pop(label, None)
        if upload is not None:
            self._store.give_back(upload.size)

    def drop_all(self) -> None:
        """Forget all: the session ends."""
        for label in list(self._live):
            self.drop(label)

    def end_stalled(self, now_s: float) -> list[wire.Failed]:
        """Drop the uploads of which nothing has come for too long; what is said of each."""
        stall_s = self._limits.stall_s
        late = [label for label, one in self._live.items() if now_s - one.last_s >= stall_s]
        for label in late:
            self.drop(label)
        return [failed_of(label, UploadStalled(f"no piece for {stall_s:g} s")) for label in late]

    def _begin(self, piece: wire.MediaPut, owner: str, now_s: float) -> Upload:
        limits = self._limits
        if piece.size == 0:
            raise InvalidParameter("the media are empty", param="size")
        if piece.size > limits.max_media_bytes:
            raise MessageTooLarge(
                f"media of {piece.size} bytes are beyond the limit of {limits.max_media_bytes}",
                param="size",
            )
        under_way = sum(upload.size for upload in self._live.values())
        if len(self) >= limits.max_uploads or under_way + piece.size > limits.max_media_bytes:
            raise Unavailable(
                f"{len(self)} uploads of this session, of {under_way} bytes, are under way",
                retry_after_s=RETRY_S,
            )
        self._store.reserve(piece.size)
        upload = self._live[piece.id] = Upload(
            sha256=piece.sha256,
            size=piece.size,
            owner=owner,
            granted=limits.media_credit_bytes,
            last_s=now_s,
        )
        return upload

    def _finish(self, label: str, upload: Upload) -> wire.MediaReady:
        data = upload.whole()
        del self._live[label]
        self._store.keep(data, upload.sha256, upload.owner)
        return wire.MediaReady(id=label, sha256=upload.sha256)

    def _grant(self, label: str, upload: Upload) -> wire.Credit | None:
        """Half a window at a time."""
        window = self._limits.media_credit_bytes
        if upload.granted - upload.received > window // 2 or upload.granted >= upload.size:
            return None
        count = upload.received + window - upload.granted
        upload.granted += count
        return wire.Credit(id=label, bytes=count)
