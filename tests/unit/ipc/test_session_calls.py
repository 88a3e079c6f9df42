"""Thoughts and calls in a session: their credit, and what of them goes out joined."""

from __future__ import annotations

import dataclasses

import pytest

from nsedge import api
from nsedge.ipc import messages as wire
from tests.unit.ipc.test_session import LIMITS, delta, finished, opened, sent, session


def thought(seq: int) -> api.ReasoningDelta:
    return api.ReasoningDelta(request_id="a", seq=seq, text="x", token_ids=(seq,))


def call(seq: int, index: int = 0, name: str | None = None) -> api.ToolCallDelta:
    return api.ToolCallDelta(
        request_id="a",
        seq=seq,
        index=index,
        call_id=name,
        name=name,
        arguments="" if name else "x",
        token_ids=(seq,),
    )


def test_what_waited_goes_out_joined_with_its_like() -> None:
    room = session(dataclasses.replace(LIMITS, max_pending_bytes=4096))
    stream, _ = opened(room, credit=0)
    given = [
        *(thought(0), thought(1), delta(2), delta(3), call(4, name="f"), call(5), call(6)),
        *(call(7, 1, name="g"), call(8, 1)),
    ]
    for event in [*given, finished()]:
        room.offer(stream, event)
    assert sent(room) == []
    room.grant("a", 2000)
    *told, last = sent(room)
    assert told == [
        wire.ReasoningDelta(id="a", seq=0, text="xx", token_ids=(0, 1)),
        wire.Delta(id="a", seq=2, text="xx", token_ids=(2, 3)),
        wire.ToolCallDelta(
            id="a", seq=4, index=0, call_id="f", name="f", arguments="xx", token_ids=(4, 5, 6)
        ),
        wire.ToolCallDelta(
            id="a", seq=7, index=1, call_id="g", name="g", arguments="x", token_ids=(7, 8)
        ),
    ]
    assert isinstance(last, wire.Finished)
    assert [event for _, event in room.taken] == [*given, finished()]


@pytest.mark.parametrize("minor", [3, 4])
def test_a_client_of_1_3_gets_none(minor: int) -> None:
    room = session()
    room.minor = minor
    stream, _ = opened(room)
    for event in (thought(0), call(1, name="f"), delta(2)):
        room.offer(stream, event)
    kinds = [type(message) for message in sent(room)]
    every = [wire.ReasoningDelta, wire.ToolCallDelta, wire.Delta]
    assert kinds == (every if minor == 4 else [wire.Delta])
    assert len(room.taken) == 3
