"""Media by their hash, in memory within a budget. No sockets, no clock; nothing is on disk.

Who names media by hash must have sent their bytes before, under the same name of caller: a hash may
be public where the bytes are not. Two who send the same bytes share them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from nsedge import api
from nsedge.errors import InvalidParameter, MessageTooLarge, Unavailable, UnknownMedia
from nsedge.ipc import messages as wire

RETRY_S = 1.0


@dataclass(eq=False, slots=True, kw_only=True)
class _Kept:
    data: bytes
    owners: set[str]
    holders: int = 0
    """Live requests that use it."""


class MediaStore:
    """The longest unused leave first; what is held never does."""

    def __init__(self, budget_bytes: int) -> None:
        """`budget_bytes`: of all that is kept, and of all that is on its way here."""
        self.budget_bytes = budget_bytes
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._kept_bytes = 0
        self._reserved_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Of the budget."""
        return self._kept_bytes + self._reserved_bytes

    def has(self, sha256: str, owner: str) -> bool:
        """Whether `owner` has sent these bytes, and they are still here."""
        kept = self._kept.get(sha256)
        return kept is not None and owner in kept.owners

    def reserve(self, size: int) -> None:
        """Keep room for `size` bytes that are on their way.

        Raises:
            MessageTooLarge: there is never so much room.
            Unavailable: there is not now: too much is held, or on its way.
        """
        if size > self.budget_bytes:
            raise MessageTooLarge(
                f"media of {size} bytes are beyond the {self.budget_bytes} that are kept",
                param="size",
            )
        if not self._make_room(size):
            raise Unavailable(
                f"no room for media of {size} bytes now: live requests hold what is kept",
                retry_after_s=RETRY_S,
            )
        self._reserved_bytes += size

    def give_back(self, size: int) -> None:
        """Room for `size` bytes is not needed any more."""
        self._reserved_bytes -= size

    def keep(self, data: bytes, sha256: str, owner: str) -> None:
        """Keep `data` of `owner`, for which room is reserved; `sha256` is its hash."""
        self.give_back(len(data))
        self._add(data, sha256, owner)

    def take(self, data: bytes, sha256: str, owner: str) -> bool:
        """As `keep`, where there is room; whether there was."""
        if sha256 not in self._kept and not self._make_room(len(data)):
            return False
        self._add(data, sha256, owner)
        return True

    def hold(self, sha256: str, owner: str) -> bytes:
        """The bytes of that hash, which stay until they are let go of as often as held.

        Raises:
            UnknownMedia: `owner` never sent them, or they have left.
        """
        kept = self._kept.get(sha256)
        if kept is None or owner not in kept.owners:
            raise UnknownMedia(f"no media {sha256} are here: send them again", param="messages")
        kept.holders += 1
        self._kept.move_to_end(sha256)
        return kept.data

    def let_go(self, sha256: str) -> None:
        """One who held these bytes does not any more."""
        self._kept[sha256].holders -= 1

    def check(self) -> None:
        """Raise RuntimeError where the books are wrong, or the budget is overdrawn."""
        there = sum(len(kept.data) for kept in self._kept.values())
        if there != self._kept_bytes or self._reserved_bytes < 0:
            raise RuntimeError(f"{there} bytes are kept, not {self._kept_bytes}")
        if self.used_bytes > self.budget_bytes:
            raise RuntimeError(f"{self.used_bytes} bytes are beyond {self.budget_bytes}")
        if any(kept.holders < 0 for kept in self._kept.values()):
            raise RuntimeError("media were let go of more often than held")

    def _add(self, data: bytes, sha256: str, owner: str) -> None:
        kept = self._kept.get(sha256)
        if kept is None:
            self._kept[sha256] = _Kept(data=data, owners={owner})
            self._kept_bytes += len(data)
            return
        kept.owners.add(owner)
        self._kept.move_to_end(sha256)

    def _make_room(self, size: int) -> bool:
        """Let the longest unused leave until `size` bytes fit; none where that is not enough."""
        lacking = self.used_bytes + size - self.budget_bytes
        leaving = []
        for sha256, kept in self._kept.items():
            if lacking <= 0:
                break
            if not kept.holders:
                leaving.append(sha256)
                lacking -= len(kept.data)
        if lacking > 0:
            return False
        for sha256 in leaving:
            self._kept_bytes -= len(self._kept.pop(sha256).data)
        return True


class Hold:
    """The media of one request, which stay until its end."""

    def __init__(self, store: MediaStore, *, owner: str, most_bytes: int) -> None:
        """`most_bytes`: what the media that it names may have together."""
        self._store = store
        self._owner = owner
        self._room = most_bytes
        self._held: list[str] = []

    def media(self, part: wire.MediaPart) -> api.Media:
        """The medium of a part of a message, or of an input.

        Raises:
            UnknownMedia: it is named, and not here.
            MessageTooLarge: what is named has too many bytes together.
            InvalidParameter: it is neither named nor given, or both.
        """
        if (part.data is None) == (part.sha256 is None):
            raise InvalidParameter("media need either data or sha256", param="messages")
        if part.sha256 is not None:
            data, sha256 = self._store.hold(part.sha256, self._owner), part.sha256
            if sha256 not in self._held:
                self._room -= len(data)
            self._held.append(sha256)
            if self._room < 0:
                raise MessageTooLarge("the media of one request are too large", param="messages")
            return api.Media.hashed(
                type=part.media_type, data=data, sha256=sha256, shape=part.shape, dtype=part.dtype
            )
        media = api.Media(
            type=part.media_type, data=part.data or b"", shape=part.shape, dtype=part.dtype
        )
        if media.data and self._store.take(media.data, media.sha256, self._owner):
            self._store.hold(media.sha256, self._owner)
            self._held.append(media.sha256)
        return media

    def until_end(self, sink: api.Sink) -> api.Sink:
        """`sink`; what is held is let go of with the terminal event."""
        if not self._held:
            return sink

        def releasing(event: api.Event) -> None:
            if api.is_terminal(event):
                self.release()
            sink(event)

        return releasing

    def release(self) -> None:
        """Let go of all. Idempotent."""
        while self._held:
            self._store.let_go(self._held.pop())
