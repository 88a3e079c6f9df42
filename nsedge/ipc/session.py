"""Sessions and their streams: ids, credit, pending text, liveness. Values in, frames out; no
sockets, no clock, no loop.

A stream's results go out while its credit is above zero; each takes its frame's length off, so one
frame may overdraw and nothing can get stuck. Without credit they wait; text goes out joined then.
Whatever happens, a stream puts exactly one terminal event into its session's outbox, unless the
whole session is dropped.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from nsedge.api import AnyDelta, Delta, Event, Failed, Feed, Finished, Progress, Segment, Ticket
from nsedge.errors import NsedgeError, OutOfOrder, SlowConsumer, Unavailable
from nsedge.ipc.events import OF_EVENT, continues, encode_event, merge
from nsedge.ipc.limits import Limits
from nsedge.ipc.media import MediaStore
from nsedge.ipc.messages import SESSION_BYTES, Audio, Credit, MediaPut
from nsedge.ipc.protocol import MINOR, encode
from nsedge.ipc.uploads import Uploads

Peer = bytes
"""The routing id that the data socket gives a connection."""


@dataclass(eq=False, slots=True, kw_only=True)
class Stream:
    """One live request of a session."""

    request_id: str
    credit: int
    """Bytes of results that may still go out; below zero after an overdraft."""
    ticket: Ticket | None = None
    """None while the service's submit has not returned."""
    pending: deque[tuple[Event, int]] = field(default_factory=deque)
    """Results waiting for credit, each with the length of its own frame."""
    pending_bytes: int = 0
    last: Finished | None = None
    """The end, waiting behind pending results."""
    stalled_since_s: float | None = None
    cancelled: bool = False
    feed: Feed | None = None
    """Where its sound goes, where it hears any."""
    granted: int = 0
    """Bytes of sound that were granted beyond the first credit."""
    closed: bool = False
    """The terminal event is in the outbox; nothing follows it."""

    def cancel(self) -> None:
        """Ask the service for the end."""
        self.cancelled = True
        if self.ticket is not None:
            self.ticket.cancel()


@dataclass(eq=False, slots=True, kw_only=True)
class Session:
    """One client: its streams, and what is to be sent to it next."""

    peer: Peer
    key: bytes
    limits: Limits
    last_seen_s: float
    uploads: Uploads
    streams: dict[str, Stream] = field(default_factory=dict)
    pending_bytes: int = 0
    queries: int = 0
    """Unanswered ones."""
    outbox: list[bytes] = field(default_factory=list)
    taken: list[tuple[Stream, Event]] = field(default_factory=list)
    """Events to tell the service of once the outbox is sent."""
    minor: int = MINOR
    """Of the protocol that the client speaks."""
    encode: Callable[[Event], bytes] = encode_event
    """An event as it is sent; its length is what it costs of a stream's credit."""
    flushing: bool = False
    """A flush is due this loop turn."""
    suspect: bool = False
    """It was silent for too long at the last look."""

    def open(self, request_id: str, credit: int | None) -> Stream:
        """A new stream with `credit` bytes, within the limits.

        Raises:
            OutOfOrder: a live request or an upload has this id.
        """
        if request_id in self.uploads:
            raise OutOfOrder(f"{request_id!r} is an upload of this session", param="id")
        if request_id in self.streams:
            raise OutOfOrder(f"request {request_id!r} is still live in this session", param="id")
        wanted = self.limits.initial_credit_bytes if credit is None else credit
        granted = min(wanted, self.limits.max_credit_bytes)
        stream = self.streams[request_id] = Stream(request_id=request_id, credit=granted)
        return stream

    def offer(self, stream: Stream, event: Event) -> None:
        """Take the service's next event of `stream`: send it, hold it, or let it go."""
        if stream.closed:
            return
        if isinstance(event, Delta):
            self._offer_result(stream, event, self.encode(event))
        elif isinstance(event, Failed):
            self._forget_pending(stream)
            self._close(stream, event)
        elif isinstance(event, Finished):
            if stream.pending:
                stream.last = event
            else:
                self._close(stream, event)
        else:
            self._offer_other(stream, event)

    def put(self, piece: MediaPut, *, owner: str, now_s: float) -> None:
        """Take a piece of media that `owner` sends.

        Raises:
            OutOfOrder: a live request has this id.
            NsedgeError: what else ends the upload, or lets it not begin.
        """
        if piece.id in self.streams:
            raise OutOfOrder(f"request {piece.id!r} is live in this session", param="id")
        answer = self.uploads.put(piece, owner=owner, now_s=now_s)
        if answer is not None:
            self.outbox.append(encode(answer))

    def hear(self, piece: Audio) -> None:
        """Take sound for a request; an unknown id is one that has just ended. Sound that comes too
        fast, or behind the end, ends it.

        Raises:
            OutOfOrder: the request hears no sound.
        """
        stream = self.streams.get(piece.id)
        if stream is None or stream.cancelled:
            return
        if stream.feed is None:
            raise OutOfOrder(f"request {piece.id!r} hears no sound", param="id")
        try:
            stream.feed.push(piece.data)
            if piece.then is not None:
                stream.feed.mark(piece.then)
        except OutOfOrder as error:
            self._break_off(stream, error)

    def refill(self, stream: Stream) -> bool:
        """Grant anew what of a stream's sound was heard, half of the window at a time; whether
        anything was."""
        feed = stream.feed
        if stream.closed or feed is None or feed.ended:
            return False
        heard = feed.taken_bytes - stream.granted
        if heard < self.limits.audio_credit_bytes // 2:
            return False
        stream.granted += heard
        self.outbox.append(encode(Credit(id=stream.request_id, bytes=heard)))
        return True

    def grant(self, request_id: str, count: int) -> None:
        """`count` more bytes of credit; an unknown id is a request that has just ended."""
        stream = self.streams.get(request_id)
        if stream is None:
            return
        stream.credit = min(stream.credit + count, self.limits.max_credit_bytes)
        if stream.credit > 0:
            stream.stalled_since_s = None
            self._send_pending(stream)

    def cancel(self, request_id: str) -> None:
        """End a request; its reader may have stopped reading, so the end needs no credit. An upload
        is forgotten."""
        self.uploads.drop(request_id)
        stream = self.streams.get(request_id)
        if stream is None:
            return
        stream.cancel()
        if not stream.closed:
            self._forget_pending(stream)
            if stream.last is not None:
                self._close(stream, stream.last)

    def end_stalled(self, now_s: float) -> None:
        """End the streams whose results have waited too long for credit, and the uploads of which
        nothing has come for as long."""
        self.outbox += map(encode, self.uploads.end_stalled(now_s))
        for stream in list(self.streams.values()):
            if not stream.pending:
                continue
            if stream.stalled_since_s is None:
                stream.stalled_since_s = now_s
            elif now_s - stream.stalled_since_s >= self.limits.stall_s:
                self._end_slow(stream, f"no credit for {self.limits.stall_s:g} s")

    def end_all(self, failure: Failed | None) -> None:
        """End every stream: told with `failure` as its terminal event, or, the client being gone,
        told nothing."""
        self.uploads.drop_all()
        for stream in list(self.streams.values()):
            self._forget_pending(stream)
            if failure is None:
                stream.closed = True
                del self.streams[stream.request_id]
            else:
                self._close(stream, replace(failure, request_id=stream.request_id))
            stream.cancel()

    def _offer_other(self, stream: Stream, event: Event) -> None:
        """Send or hold an event that is no text. One that the client does not know is let go, and
        so is news of progress that would have to wait: the next says more."""
        kind = OF_EVENT[type(event)]
        if kind.since > self.minor or (isinstance(event, Progress) and stream.pending):
            self.taken.append((stream, event))
        elif kind.credited:
            self._offer_result(stream, event, self.encode(event))
        else:
            self._put(stream, event, self.encode(event))

    def _offer_result(self, stream: Stream, event: Event, frame: bytes) -> None:
        if stream.cancelled:
            self.taken.append((stream, event))
            return
        if stream.credit > 0 and not stream.pending:
            stream.credit -= len(frame)
            self._put(stream, event, frame)
            return
        if stream.pending and _tells_anew(event, stream.pending[-1][0]):
            before, size = stream.pending.pop()
            self.taken.append((stream, before))
            stream.pending_bytes -= size
            self.pending_bytes -= size
        stream.pending.append((event, len(frame)))
        stream.pending_bytes += len(frame)
        self.pending_bytes += len(frame)
        if self.pending_bytes > self.limits.max_pending_bytes:
            most = max(self.streams.values(), key=lambda other: other.pending_bytes)
            self._end_slow(most, f"{self.limits.max_pending_bytes} bytes wait for credit")

    def _send_pending(self, stream: Stream) -> None:
        while stream.pending and stream.credit > 0:
            event, size = stream.pending.popleft()
            batch = [event]
            if isinstance(event, AnyDelta):
                deltas, more = _following(stream, event, stream.credit - size)
                batch, event, size = [*deltas], merge(deltas), size + more
            stream.pending_bytes -= size
            self.pending_bytes -= size
            frame = self.encode(event)
            stream.credit -= len(frame)
            self.outbox.append(frame)
            self.taken.extend((stream, taken) for taken in batch)
        if not stream.pending and stream.last is not None:
            self._close(stream, stream.last)

    def _end_slow(self, stream: Stream, why: str) -> None:
        self._break_off(stream, SlowConsumer(f"the reader is slow: {why}"))

    def _break_off(self, stream: Stream, error: NsedgeError) -> None:
        self._forget_pending(stream)
        self._close(stream, Failed.of(stream.request_id, error))
        stream.cancel()

    def _close(self, stream: Stream, event: Finished | Failed) -> None:
        stream.closed = True
        del self.streams[stream.request_id]
        self._put(stream, event, self.encode(event))

    def _forget_pending(self, stream: Stream) -> None:
        self.taken.extend((stream, event) for event, _ in stream.pending)
        self.pending_bytes -= stream.pending_bytes
        stream.pending_bytes = 0
        stream.pending.clear()

    def _put(self, stream: Stream, event: Event, frame: bytes) -> None:
        self.outbox.append(frame)
        self.taken.append((stream, event))


def _following(stream: Stream, first: AnyDelta, room: int) -> tuple[list[AnyDelta], int]:
    """`first` and the deltas right behind it that continue it, as many as fit `room`; their
    bytes."""
    deltas, size = [first], 0
    while stream.pending:
        event, length = stream.pending[0]
        if not isinstance(event, AnyDelta) or not continues(first, event) or size + length > room:
            break
        stream.pending.popleft()
        deltas.append(event)
        size += length
    return deltas, size


def _tells_anew(event: Event, before: Event) -> bool:
    """Whether nobody needs to be told `before` any more."""
    return (
        isinstance(event, Segment)
        and isinstance(before, Segment)
        and event.seq == before.seq
        and not before.final
    )


class Sessions:
    """The live sessions, by connection and by key."""

    def __init__(self, limits: Limits) -> None:
        self.media = MediaStore(limits.media_bytes)
        self._limits = limits
        self._by_peer: dict[Peer, Session] = {}
        self._by_key: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._by_peer)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_peer.values()))

    def of_peer(self, peer: Peer) -> Session | None:
        """The session of a connection."""
        return self._by_peer.get(peer)

    def of_key(self, key: bytes) -> Session | None:
        """The session that knows this key."""
        return self._by_key.get(key)

    def open(self, peer: Peer, now_s: float, *, minor: int = MINOR) -> Session:
        """A new session, of protocol 1.`minor`; one that the connection had must be closed first.

        Raises:
            Unavailable: as many are open as may be.
        """
        if len(self) >= self._limits.max_sessions:
            raise Unavailable(
                f"{self._limits.max_sessions} clients are connected, the most allowed",
                retry_after_s=self._limits.liveness_s,
            )
        session = Session(
            peer=peer,
            key=secrets.token_bytes(SESSION_BYTES),
            limits=self._limits,
            last_seen_s=now_s,
            uploads=Uploads(self.media, self._limits),
            minor=minor,
        )
        self._by_peer[peer] = self._by_key[session.key] = session
        return session

    def close(self, session: Session) -> None:
        """Forget a session and cancel what it holds; harmless where it is closed already."""
        if self._by_key.pop(session.key, None) is not None:
            del self._by_peer[session.peer]
        session.end_all(None)
        session.outbox.clear()
        session.taken.clear()

    def silent(self, now_s: float) -> list[Session]:
        """The sessions that have been silent for too long, at this look and the one before: after
        a pause of the whole process, their messages get the chance to be read first."""
        limit = now_s - self._limits.liveness_s
        found = []
        for session in self._by_peer.values():
            silent = session.last_seen_s <= limit
            if silent and session.suspect:
                found.append(session)
            session.suspect = silent
        return found
