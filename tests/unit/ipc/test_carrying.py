"""How a client brings media: given, in pieces, or named; against the daemon's own side of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any

import pytest

from nsedge import api
from nsedge.errors import (
    ConnectionLost,
    MessageTooLarge,
    NsedgeError,
    Unavailable,
    UnsupportedVersion,
)
from nsedge.ipc import messages as wire
from nsedge.ipc import protocol
from nsedge.ipc.carrying import Carrier
from nsedge.ipc.limits import Limits
from nsedge.ipc.media import Hold, MediaStore
from nsedge.ipc.requests import request_of
from nsedge.ipc.uploads import Uploads
from tests.ipc import until

LIMITS = Limits(media_bytes=40_000, media_credit_bytes=2000, max_message_bytes=4000)


def welcome(version: str = protocol.VERSION, limits: Limits = LIMITS) -> wire.Welcome:
    return wire.Welcome(
        protocol=version,
        server="0",
        session=b"k" * 16,
        heartbeat_s=1.0,
        liveness_s=10.0,
        max_message_bytes=limits.max_message_bytes,
        initial_credit_bytes=1,
        max_credit_bytes=1,
        control_suffix="",
        control_port_offset=1,
        max_media_bytes=limits.max_media_bytes,
        media_credit_bytes=limits.media_credit_bytes,
    )


class Far:
    """The daemon's side: answers on the next turn of the loop, unless told to say nothing."""

    def __init__(self, carrier_of: wire.Welcome | None = None) -> None:
        self.store = MediaStore(LIMITS.media_bytes)
        self.uploads = Uploads(self.store, LIMITS)
        self.silent = False
        self.sent: list[wire.ClientMessage] = []
        self.asked: list[api.Request] = []
        ids = (f"u{n}" for n in itertools.count())
        self.carrier = Carrier(line=self, welcome=carrier_of or welcome(), new_id=lambda: next(ids))

    def send(self, *messages: wire.ClientMessage) -> None:
        for message in messages:
            self.send_frames(protocol.encode(message))

    def send_frames(self, *payloads: bytes) -> None:
        for payload in payloads:
            assert len(protocol.MAGIC) + len(payload) <= LIMITS.max_message_bytes
            self._hear(protocol.decode_data(payload))

    def _hear(self, message: wire.ClientMessage) -> None:
        self.sent.append(message)
        match message:
            case wire.MediaPut():
                self._take(message)
            case wire.Cancel(id=label):
                self.uploads.drop(label)
            case wire.Chat():
                hold = Hold(self.store, owner="me", most_bytes=LIMITS.max_media_bytes)
                self.asked.append(request_of(message, hold.media))
                hold.release()

    def _take(self, piece: wire.MediaPut) -> None:
        soon = asyncio.get_running_loop().call_soon
        try:
            answer = self.uploads.put(piece, owner="me", now_s=0.0)
        except NsedgeError as error:
            soon(self.carrier.fail, piece.id, error)
            return
        if answer is not None and not self.silent:
            soon(self.carrier.hear, answer)

    def shown(self) -> list[str]:
        """How each part of the last request came, in order."""
        message = next(one for one in reversed(self.sent) if isinstance(one, wire.Chat))
        parts = [part for turn in message.messages for part in turn.content]
        ways = []
        for part in parts:
            assert not isinstance(part, str)
            if isinstance(part, wire.MediaPart):
                ways.append("named" if part.data is None else "given")
            else:
                ways.append("text")
        return ways

    def pieces(self) -> int:
        return sum(isinstance(message, wire.MediaPut) for message in self.sent)


def chat(*shown: bytes) -> api.Request:
    parts = [api.MediaPart(media=api.Media(type="image/png", data=data)) for data in shown]
    turn = api.Message(role=api.Role.USER, content=(api.TextPart(text="what is this?"), *parts))
    return api.Request(request_id="a", model="m", task=api.Chat(messages=(turn,)))


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


SMALL, LARGE = b"s" * 100, bytes(range(250)) * 36


def test_what_fits_is_given_and_named_from_then_on() -> None:
    async def scenario() -> None:
        far = Far()
        for ways in (["text", "given"], ["text", "named"]):
            await far.carrier.send(chat(SMALL), credit=None)
            assert far.shown() == ways
            assert far.asked[-1] == chat(SMALL)
        assert far.pieces() == 0

    run(scenario())


def test_what_does_not_fit_goes_before_in_pieces_and_only_once() -> None:
    async def scenario() -> None:
        far = Far()
        await far.carrier.send(chat(SMALL, LARGE), credit=9)
        assert far.shown() == ["text", "given", "named"]
        assert far.asked[-1] == chat(SMALL, LARGE)
        count = far.pieces()
        assert count >= len(LARGE) // 2000
        await far.carrier.send(chat(LARGE, SMALL, LARGE), credit=None)
        assert far.shown() == ["text", "named", "named", "named"]
        assert far.pieces() == count

    run(scenario())


def test_many_that_fit_one_by_one_but_not_together() -> None:
    async def scenario() -> None:
        far = Far()
        some = [bytes([n]) * 900 for n in range(5)]
        await far.carrier.send(chat(*some), credit=None)
        assert far.shown() == ["text", "given", "given", "named", "named", "named"]
        assert far.asked == [chat(*some)]

    run(scenario())


def test_two_requests_bring_the_same_media_once() -> None:
    async def scenario() -> None:
        far = Far()
        await asyncio.gather(*(far.carrier.send(chat(LARGE), credit=None) for _ in range(3)))
        assert far.asked == [chat(LARGE)] * 3
        assert sum(isinstance(one, wire.MediaPut) and not one.offset for one in far.sent) == 1

    run(scenario())


def test_what_is_forgotten_is_brought_again() -> None:
    async def scenario() -> None:
        far = Far()
        await far.carrier.send(chat(LARGE), credit=None)
        count = far.pieces()
        far.store.reserve(LIMITS.media_bytes)
        far.store.give_back(LIMITS.media_bytes)
        request = chat(LARGE)
        assert isinstance(request.task, api.Chat)
        far.carrier.forget(request.task.messages[0].media)
        await far.carrier.send(request, credit=None)
        assert far.asked == [chat(LARGE)] * 2
        assert far.pieces() == 2 * count

    run(scenario())


def test_refusals_reach_the_request() -> None:
    async def scenario() -> None:
        far = Far()
        with pytest.raises(MessageTooLarge, match="10001 bytes; the daemon takes 10000"):
            await far.carrier.send(chat(b"x" * 10_001), credit=None)
        far.store.reserve(LIMITS.media_bytes)
        with pytest.raises(Unavailable, match="no room"):
            await far.carrier.send(chat(LARGE), credit=None)
        far.store.give_back(LIMITS.media_bytes)
        await far.carrier.send(chat(LARGE), credit=None)
        assert far.asked == [chat(LARGE)]

    run(scenario())


def test_an_older_daemon_is_not_asked() -> None:
    async def scenario() -> None:
        far = Far(welcome("1.2"))
        with pytest.raises(UnsupportedVersion, match=r"1\.3, not 1\.2"):
            await far.carrier.send(chat(SMALL), credit=None)
        assert far.sent == []

    run(scenario())


def test_who_leaves_takes_the_upload_along() -> None:
    async def scenario() -> None:
        far = Far()
        far.silent = True
        sending = asyncio.ensure_future(far.carrier.send(chat(LARGE), credit=None))
        await until(lambda: bool(far.sent))
        assert len(far.uploads) == 1
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert len(far.uploads) == 0
        assert far.store.used_bytes == 0
        far.silent = False
        await far.carrier.send(chat(LARGE), credit=None)
        assert far.asked == [chat(LARGE)]

    run(scenario())


def test_a_lost_connection_ends_all_that_waits_for_it() -> None:
    async def scenario() -> None:
        far = Far()
        far.silent = True
        waiting = [
            asyncio.ensure_future(far.carrier.send(chat(bytes([n]) * 9000), credit=None))
            for n in range(2)
        ]
        await until(lambda: bool(far.sent))
        far.carrier.lose(ConnectionLost("gone"))
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [ConnectionLost] * 2

    run(scenario())
