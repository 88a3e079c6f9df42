"""Streams, credit, liveness: values in, frames out."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nsedge import api
from nsedge.errors import Draining, NsedgeError, OutOfOrder, Unavailable
from nsedge.ipc import events, protocol
from nsedge.ipc import messages as wire
from nsedge.ipc.limits import Limits
from nsedge.ipc.media import MediaStore
from nsedge.ipc.session import Session, Sessions, Stream
from nsedge.ipc.uploads import Uploads
from tests.unit.ipc.test_media import hash_of

FRAME = len(events.encode_delta(api.Delta(request_id="a", seq=0, text="x", token_ids=(1,))))
LIMITS = Limits(initial_credit_bytes=1000, max_credit_bytes=2000, max_pending_bytes=10 * FRAME)


class Ticket:
    """Records what the service is told."""

    def __init__(self) -> None:
        self.cancels = 0

    def cancel(self) -> None:
        self.cancels += 1

    def took(self, event: api.Event) -> None:
        raise NsedgeError("a session leaves this to the server")


def session(limits: Limits = LIMITS) -> Session:
    uploads = Uploads(MediaStore(limits.media_bytes), limits)
    return Session(peer=b"p", key=b"k" * 16, limits=limits, last_seen_s=0.0, uploads=uploads)


def opened(room: Session, credit: int | None = None, label: str = "a") -> tuple[Stream, Ticket]:
    stream = room.open(label, credit)
    ticket = Ticket()
    stream.ticket = ticket
    return stream, ticket


def delta(seq: int, label: str = "a") -> api.Delta:
    return api.Delta(request_id=label, seq=seq, text="x", token_ids=(seq,))


def finished(label: str = "a") -> api.Finished:
    return api.Finished(
        request_id=label,
        reason=api.FinishReason.STOP,
        usage=api.Usage(prompt_tokens=1, completion_tokens=1),
        timings=api.Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0),
    )


def sent(room: Session) -> list[wire.ServerMessage]:
    frames, room.outbox = room.outbox, []
    return [protocol.decode_server(frame) for frame in frames]


def test_within_credit_events_go_straight_out() -> None:
    room = session()
    stream, _ = opened(room)
    given = [api.Started(request_id="a", prompt_tokens=1, queue_s=0.0), delta(0), finished()]
    for event in given:
        room.offer(stream, event)
    assert [type(message) for message in sent(room)] == [wire.Started, wire.Delta, wire.Finished]
    assert [event for _, event in room.taken] == given
    assert stream.closed
    assert not room.streams


def test_the_last_frame_may_overdraw_and_the_next_waits() -> None:
    room = session()
    stream, _ = opened(room, credit=FRAME + 1)
    for seq in range(3):
        room.offer(stream, delta(seq))
    assert len(sent(room)) == 2
    assert stream.credit == 1 - FRAME
    assert room.pending_bytes == FRAME
    room.grant("a", FRAME - 1)
    assert sent(room) == []
    room.grant("a", 1)
    assert len(sent(room)) == 1
    assert room.pending_bytes == 0


def test_what_waited_goes_out_as_one_and_the_end_behind_it() -> None:
    room = session()
    stream, _ = opened(room, credit=0)
    for seq in range(3):
        room.offer(stream, delta(seq))
    room.offer(stream, finished())
    assert sent(room) == []
    assert room.taken == []
    room.grant("a", 1000)
    joined, last = sent(room)
    assert joined == wire.Delta(id="a", seq=0, text="xxx", token_ids=(0, 1, 2))
    assert isinstance(last, wire.Finished)
    assert len(room.taken) == 4
    assert room.pending_bytes == 0


def vectors(first: int, rows: int = 1) -> api.Vectors:
    return api.Vectors(request_id="a", first=first, shape=(rows, 1), data=b"\0\0\x80?" * rows)


def test_vectors_cost_credit_and_wait_in_order_and_unjoined() -> None:
    room = session()
    stream, _ = opened(room, credit=1)
    pending = api.ArtifactPending(request_id="a", artifact_id="f", media_type="image/png")
    given = [vectors(0), delta(0), delta(1), vectors(1), pending]
    for event in [*given, finished()]:
        room.offer(stream, event)
    assert [type(message) for message in sent(room)] == [wire.Vectors]
    assert room.pending_bytes == sum(len(events.encode_event(event)) for event in given[1:])
    room.grant("a", 1000)
    kinds = [type(message) for message in sent(room)]
    assert kinds == [wire.Delta, wire.Vectors, wire.ArtifactPending, wire.Finished]
    assert room.pending_bytes == 0
    assert [event for _, event in room.taken] == [*given, finished()]


def test_one_large_frame_overdraws_and_the_next_waits_for_all_of_it() -> None:
    room = session(Limits())
    stream, _ = opened(room, credit=100)
    large = vectors(0, rows=1000)
    size = len(events.encode_event(large))
    room.offer(stream, large)
    room.offer(stream, large)
    assert len(sent(room)) == 1
    room.grant("a", size - 100)
    assert sent(room) == []
    room.grant("a", 1)
    assert len(sent(room)) == 1
    assert stream.credit == 1 - size


def test_progress_costs_nothing_and_is_let_go_while_results_wait() -> None:
    room = session()
    stream, _ = opened(room, credit=0)
    news = api.Progress(request_id="a", done=1.0, total=2.0, unit="step")
    room.offer(stream, news)
    assert [type(message) for message in sent(room)] == [wire.Progress]
    assert stream.credit == 0
    room.offer(stream, vectors(0))
    room.offer(stream, news)
    assert sent(room) == []
    room.grant("a", 1000)
    assert [type(message) for message in sent(room)] == [wire.Vectors]
    assert [event for _, event in room.taken] == [news, news, vectors(0)]


@pytest.mark.parametrize("minor", [0, 1, 2, 3])
def test_a_client_gets_what_its_version_knows(minor: int) -> None:
    room = session()
    room.minor = minor
    stream, _ = opened(room)
    loading = api.Loading(
        request_id="a", model="m", state=api.ModelState.LOADING, position=0, progress=0.0
    )
    news = api.Progress(request_id="a", done=1.0, total=2.0, unit="step")
    for event in (loading, vectors(0), news, delta(0), finished()):
        room.offer(stream, event)
    known = [wire.Loading] * (minor >= 2) + [wire.Vectors, wire.Progress] * (minor >= 3)
    assert [type(message) for message in sent(room)] == [*known, wire.Delta, wire.Finished]
    assert len(room.taken) == 5


def test_a_failure_overtakes_what_waits() -> None:
    room = session()
    stream, _ = opened(room, credit=0)
    room.offer(stream, delta(0))
    room.offer(stream, api.Failed.of("a", NsedgeError("broke")))
    assert [type(message) for message in sent(room)] == [wire.Failed]
    assert room.pending_bytes == 0


def test_nothing_follows_the_end() -> None:
    room = session()
    stream, _ = opened(room)
    room.offer(stream, finished())
    room.offer(stream, delta(9))
    room.offer(stream, finished())
    assert len(sent(room)) == 1


def test_credit_is_capped() -> None:
    room = session()
    stream, _ = opened(room, credit=10**9)
    assert stream.credit == LIMITS.max_credit_bytes
    room.grant("a", 10**9)
    assert stream.credit == LIMITS.max_credit_bytes
    room.grant("unknown", 5)
    assert opened(room, None, "b")[0].credit == LIMITS.initial_credit_bytes


def test_a_live_id_is_refused_and_the_live_request_untouched() -> None:
    room = session()
    stream, ticket = opened(room)
    with pytest.raises(OutOfOrder):
        room.open("a", None)
    assert room.streams == {"a": stream}
    assert ticket.cancels == 0


def test_an_upload_and_a_request_never_share_an_id() -> None:
    room = session()
    data = b"a picture"
    first = wire.MediaPut(id="a", sha256=hash_of(data), size=len(data), offset=0, data=data[:2])
    opened(room)
    with pytest.raises(OutOfOrder, match="live") as caught:
        room.put(first, owner="me", now_s=0.0)
    assert caught.value.param == "id"
    assert len(room.uploads) == 0
    upload = msgspec.structs.replace(first, id="b")
    room.put(upload, owner="me", now_s=0.0)
    with pytest.raises(OutOfOrder, match="upload") as caught:
        room.open("b", None)
    assert caught.value.param == "id"
    room.cancel("b")
    room.open("b", None)


def test_cancel_needs_no_credit() -> None:
    room = session()
    stream, ticket = opened(room, credit=0)
    room.offer(stream, delta(0))
    room.cancel("a")
    room.cancel("unknown")
    assert ticket.cancels == 1
    room.offer(stream, delta(1))
    room.offer(stream, finished())
    assert [type(message) for message in sent(room)] == [wire.Finished]
    assert room.pending_bytes == 0


def test_cancel_lets_a_waiting_end_out() -> None:
    room = session()
    stream, _ = opened(room, credit=0)
    room.offer(stream, delta(0))
    room.offer(stream, finished())
    room.cancel("a")
    assert [type(message) for message in sent(room)] == [wire.Finished]


def test_a_stalled_stream_ends_after_its_time() -> None:
    room = session()
    stream, ticket = opened(room, credit=0)
    room.end_stalled(0.0)
    room.offer(stream, delta(0))
    room.end_stalled(10.0)
    room.end_stalled(10.0 + LIMITS.stall_s - 0.1)
    assert sent(room) == []
    room.end_stalled(10.0 + LIMITS.stall_s)
    (failure,) = sent(room)
    assert isinstance(failure, wire.Failed)
    assert failure.code == "slow_consumer"
    assert ticket.cancels == 1


def test_credit_resets_the_stall() -> None:
    room = session()
    stream, _ = opened(room, credit=0)
    room.offer(stream, delta(0))
    room.end_stalled(0.0)
    room.grant("a", 1)
    room.offer(stream, delta(1))
    room.end_stalled(LIMITS.stall_s)
    assert [type(message) for message in sent(room)] == [wire.Delta]


def test_too_much_waiting_ends_the_stream_that_holds_most() -> None:
    room = session()
    hog, hog_ticket = opened(room, 0, "a")
    modest, modest_ticket = opened(room, 0, "b")
    for seq in range(9):
        room.offer(hog, delta(seq))
    room.offer(modest, delta(0, "b"))
    assert sent(room) == []
    room.offer(modest, delta(1, "b"))
    (failure,) = sent(room)
    assert isinstance(failure, wire.Failed)
    assert (failure.id, failure.code) == ("a", "slow_consumer")
    assert (hog_ticket.cancels, modest_ticket.cancels) == (1, 0)
    assert room.pending_bytes == 2 * FRAME


def test_all_end_told_or_untold() -> None:
    room = session()
    stream, ticket = opened(room, credit=0)
    room.offer(stream, delta(0))
    room.end_all(api.Failed.of(None, Draining("stopping")))
    (failure,) = sent(room)
    assert isinstance(failure, wire.Failed)
    assert (failure.id, failure.code, ticket.cancels) == ("a", "draining", 1)
    silent, ticket = opened(room)
    room.end_all(None)
    assert silent.closed
    assert ticket.cancels == 1
    assert sent(room) == []
    assert not room.streams


def test_sessions_are_bounded_found_and_closed() -> None:
    sessions = Sessions(Limits(max_sessions=1))
    one = sessions.open(b"p", 0.0)
    assert sessions.of_peer(b"p") is one
    assert sessions.of_key(one.key) is one
    assert len(one.key) == 16
    with pytest.raises(Unavailable):
        sessions.open(b"q", 0.0)
    _, ticket = opened(one)
    sessions.close(one)
    sessions.close(one)
    assert ticket.cancels == 1
    assert len(sessions) == 0
    assert sessions.of_key(one.key) is None
    assert sessions.open(b"q", 0.0).key != one.key


def test_silence_must_be_seen_twice() -> None:
    limits = Limits()
    sessions = Sessions(limits)
    quiet, lively = sessions.open(b"q", 0.0), sessions.open(b"l", 0.0)
    late = limits.liveness_s
    assert sessions.silent(late - 0.1) == []
    assert sessions.silent(late) == []
    lively.last_seen_s = late
    assert sessions.silent(late + 0.5) == [quiet]


class CreditMachine(RuleBasedStateMachine):
    """Any order of deltas, grants, cancels and ends: text arrives whole and in order up to a cut,
    never beyond credit, with one terminal event."""

    def __init__(self) -> None:
        super().__init__()
        self.room = session(Limits(initial_credit_bytes=50, max_credit_bytes=500))
        self.stream, _ = opened(self.room)
        self.seq = 0
        self.ended = self.cancelled = False
        self.got: list[wire.ServerMessage] = []
        self.granted = 50

    @rule()
    def offer(self) -> None:
        if not self.ended:
            self.room.offer(self.stream, delta(self.seq))
            self.seq += 1

    @rule(count=st.integers(0, 300))
    def grant(self, count: int) -> None:
        self.room.grant("a", count)
        self.granted += count

    @rule()
    def finish(self) -> None:
        self.ended = True
        self.room.offer(self.stream, finished())

    @rule()
    def cancel(self) -> None:
        self.cancelled = True
        self.room.cancel("a")

    @invariant()
    def holds(self) -> None:
        self.got += sent(self.room)
        deltas = [message for message in self.got if isinstance(message, wire.Delta)]
        ids = [token for message in deltas for token in message.token_ids]
        assert ids == list(range(len(ids)))
        spent = [len(protocol.encode(message)) for message in deltas]
        assert not spent or sum(spent[:-1]) < self.granted
        terminal = [message for message in self.got if isinstance(message, wire.Finished)]
        assert len(terminal) == int(self.stream.closed)
        assert not terminal or self.got[-1] is terminal[0]
        if self.stream.closed and not self.cancelled:
            assert len(ids) == self.seq
        assert self.room.pending_bytes == sum(size for _, size in self.stream.pending)


CreditMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCredit = CreditMachine.TestCase
