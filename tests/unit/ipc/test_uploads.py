"""Uploads: values in, messages out."""

from __future__ import annotations

import pytest

from nsedge.errors import (
    InvalidParameter,
    MessageTooLarge,
    NsedgeError,
    OutOfOrder,
    Unavailable,
)
from nsedge.ipc import messages as wire
from nsedge.ipc.limits import Limits
from nsedge.ipc.media import MediaStore
from nsedge.ipc.uploads import Uploads
from tests.unit.ipc.test_media import hash_of

LIMITS = Limits(media_bytes=400, media_credit_bytes=20, max_uploads=2)
DATA = bytes(range(100))


class Side:
    """A session's uploads, and a clock."""

    def __init__(self, store: MediaStore | None = None) -> None:
        self.store = store or MediaStore(LIMITS.media_bytes)
        self.uploads = Uploads(self.store, LIMITS)
        self.now_s = 0.0

    def put(
        self, offset: int, data: bytes, *, label: str = "u", owner: str = "me", **fields: object
    ) -> wire.Credit | wire.MediaReady | None:
        said = {"sha256": hash_of(DATA), "size": len(DATA), **fields}
        piece = wire.MediaPut(id=label, offset=offset, data=data, **said)  # type: ignore[arg-type]
        return self.uploads.put(piece, owner=owner, now_s=self.now_s)


def test_media_come_in_pieces_within_their_credit() -> None:
    side, granted, offset = Side(), LIMITS.media_credit_bytes, 0
    answers = []
    while offset < len(DATA):
        end = min(offset + 7, granted, len(DATA))
        assert end > offset, "it never runs dry"
        answer = side.put(offset, DATA[offset:end])
        offset = end
        if isinstance(answer, wire.Credit):
            granted += answer.bytes
            assert granted <= offset + LIMITS.media_credit_bytes
        answers.append(answer)
    assert answers[-1] == wire.MediaReady(id="u", sha256=hash_of(DATA))
    assert side.store.hold(hash_of(DATA), "me") == DATA
    assert len(side.uploads) == 0
    assert side.store.used_bytes == len(DATA)


def test_what_the_caller_has_sent_before_is_ready_at_once() -> None:
    side = Side()
    for end in range(10, 101, 10):
        side.put(end - 10, DATA[end - 10 : end])
    assert side.put(0, DATA[:20], label="v") == wire.MediaReady(id="v", sha256=hash_of(DATA))
    assert side.put(20, DATA[20:40], label="v") is None
    assert side.put(0, DATA[:20], label="w", owner="you") == wire.Credit(id="w", bytes=20)
    assert len(side.uploads) == 1


@pytest.mark.parametrize(
    ("pieces", "error", "param"),
    [
        ([(0, DATA[:10], {}), (11, DATA[11:20], {})], OutOfOrder, "offset"),
        ([(0, DATA[:10], {}), (0, DATA[:10], {})], OutOfOrder, "offset"),
        ([(0, DATA[:10], {}), (10, b"x", {"size": 99})], InvalidParameter, "sha256"),
        ([(0, DATA[:10], {}), (10, b"x", {"sha256": "0" * 64})], InvalidParameter, "sha256"),
        ([(0, DATA[:10], {}), (10, DATA[10:60], {})], OutOfOrder, "data"),
        ([(0, DATA[:21], {})], OutOfOrder, "data"),
        ([(0, DATA[:9], {"size": 8})], InvalidParameter, "data"),
        ([(0, b"", {"size": 0})], InvalidParameter, "size"),
        ([(0, b"x", {"size": 101})], MessageTooLarge, "size"),
        ([(0, b"other ten.", {"size": 10})], InvalidParameter, "sha256"),
    ],
)
def test_what_is_wrong_ends_the_upload_and_gives_its_room_back(
    pieces: list[tuple[int, bytes, dict[str, object]]], error: type[NsedgeError], param: str
) -> None:
    side = Side()
    *before, (offset, data, fields) = pieces
    for at, some, said in before:
        side.put(at, some, **said)
    with pytest.raises(error) as caught:
        side.put(offset, data, **fields)
    assert caught.value.param == param
    assert len(side.uploads) == 0
    assert side.store.used_bytes == 0
    assert side.put(50, DATA[50:60]) is None, "what was on its way is ignored"


def test_a_session_has_few_uploads_at_once_and_little_in_all() -> None:
    side = Side()
    side.put(0, b"", label="a", size=30)
    side.put(0, b"", label="b", size=30)
    with pytest.raises(Unavailable) as caught:
        side.put(0, b"", label="c", size=10)
    assert caught.value.retry_after_s
    side.uploads.drop("a")
    with pytest.raises(Unavailable):
        side.put(0, b"", label="c", size=71)
    side.put(0, b"", label="c", size=70)
    side.uploads.drop_all()
    assert side.store.used_bytes == 0


def test_all_sessions_together_keep_to_the_budget() -> None:
    store = MediaStore(LIMITS.media_bytes)
    sides = [Side(store) for _ in range(4)]
    for side in sides:
        side.put(0, b"")
    with pytest.raises(Unavailable):
        Side(store).put(0, b"", size=1)
    sides[0].uploads.drop_all()
    Side(store).put(0, b"", size=1)


def test_an_upload_that_stalls_is_dropped() -> None:
    side = Side()
    side.put(0, DATA[:10], label="slow", size=50)
    side.now_s = LIMITS.stall_s - 1
    side.put(0, DATA[:10], label="quick", size=50)
    side.put(10, b"", label="slow", size=50)
    assert side.uploads.end_stalled(side.now_s) == []
    side.now_s = LIMITS.stall_s
    (failed,) = side.uploads.end_stalled(side.now_s)
    assert (failed.id, failed.code, failed.retryable) == ("slow", "upload_stalled", True)
    assert len(side.uploads) == 1
    assert side.store.used_bytes == 50
