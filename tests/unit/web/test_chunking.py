"""How streams are cut, as values and through the doors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsedge.api import Delta, Event
from nsedge.config.reader import Override, load
from nsedge.errors import ConfigInvalid
from nsedge.web.chunking import Chunk, Chunker, joined
from nsedge.web.door_settings import DoorSettings
from tests.unit.web.events import FAILED, STARTED, finished
from tests.web_server import Connection, PuppetService, Shim, answered, served


def piece(text: str, number: int = 0) -> Delta:
    return Delta(request_id="r", seq=number, text=text, token_ids=(number,))


def fed(chunk: Chunk, *batches: list[Event | tuple[int, Event]]) -> list[list[Any]]:
    """What each batch gave: texts as they are, other events by type; of choices as pairs."""
    chunker, told = Chunker(chunk), []
    for batch in batches:
        pairs = [one if isinstance(one, tuple) else (0, one) for one in batch]
        told.append(
            [
                (index, one.text if isinstance(one, Delta) else type(one).__name__)
                for index, one in chunker.feed(pairs)
            ]
        )
    return told


def test_by_token_a_piece_is_what_came() -> None:
    batch = [piece("a"), piece(""), piece("bc")]
    assert fed("token", batch) == [[(0, "a"), (0, ""), (0, "bc")]]


def test_adaptive_what_came_together_is_one_piece() -> None:
    first = [STARTED, piece("a"), piece("b"), (1, piece("x")), piece("c")]
    assert fed("adaptive", first, [piece("d")], [piece("e"), finished()]) == [
        [(0, "Started"), (0, "abc"), (1, "x")],
        [(0, "d")],
        [(0, "e"), (0, "Finished")],
    ]


def test_by_size_a_piece_has_at_least_so_many_characters_but_for_the_last() -> None:
    assert fed(3, [piece("a")], [piece("bé")], [piece("cdefg"), piece("h")], [finished()]) == [
        [],
        [(0, "abé")],
        [(0, "cdefg")],
        [(0, "h"), (0, "Finished")],
    ]


def test_choices_are_cut_apart_and_a_failure_leaves_nothing_behind() -> None:
    assert fed(3, [piece("a"), (1, piece("x"))], [(1, finished())], [piece("b")], [FAILED]) == [
        [],
        [(1, "x"), (1, "Finished")],
        [],
        [(0, "ab"), (0, "Failed")],
    ]
    assert fed(3, [piece("a"), (1, piece("x"))], [(1, FAILED)])[1] == [
        (0, "a"),
        (1, "x"),
        (1, "Failed"),
    ]


def test_a_piece_tells_of_all_its_tokens() -> None:
    assert joined([piece("a", 4), piece("b", 5)]) == Delta(
        request_id="r", seq=4, text="ab", token_ids=(4, 5)
    )


@given(
    st.sampled_from(["token", "adaptive", 1, 4, 50]),
    st.lists(st.lists(st.tuples(st.integers(0, 2), st.text(max_size=6)), max_size=5), max_size=8),
)
def test_nothing_is_lost_and_nothing_changes_places(chunk: Any, batches: Any) -> None:
    chunker, got, ended = Chunker(chunk), {0: "", 1: "", 2: ""}, set()
    ends = [(index, finished()) for index in got]
    told = [[(index, piece(text)) for index, text in batch] for batch in batches]
    for batch in [*told, ends]:
        for index, event in chunker.feed(batch):
            assert index not in ended
            if isinstance(event, Delta):
                got[index] += event.text
            else:
                ended.add(index)
    assert ended == {0, 1, 2}
    said = [pair for batch in batches for pair in batch]
    assert got == {index: "".join(text for one, text in said if one == index) for index in got}


TEXT = "aa bb cc dd"


@pytest.mark.parametrize(
    ("path", "body", "record"),
    [
        ("/api/generate/stream", {"text": TEXT}, b'data: {"text":"aa bb","done":false}\n\n'),
        (
            "/v1/completions",
            {"prompt": TEXT, "model": "echo", "stream": True, "max_tokens": 99},
            b'"text":"aa bb"',
        ),
        (
            "/chat/stream",
            {"messages": [{"role": "user", "content": TEXT}]},
            b'{"type":"fragment","content":"aa bb"}\n',
        ),
    ],
)
def test_a_field_and_a_setting_cut_the_stream_at_every_door(
    path: str, body: dict[str, Any], record: bytes
) -> None:
    whole = answered("POST", path, body)
    assert record not in whole.body
    assert record in answered("POST", path, body, settings=DoorSettings(chunk=4)).body
    in_config = "messages" in body and "model" not in body
    for size, status in ((4, 200), (0, 400)):
        field = {"config": {"chunk": size}} if in_config else {"chunk": size}
        answer = answered("POST", path, body | field)
        assert answer.status == status
        assert (record if status == 200 else b"chunk: Expected `int` >= 1") in answer.body


def test_what_came_together_goes_as_one_piece_to_the_reader() -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        connection.say("POST", "/api/generate/stream", {"text": "x", "chunk": "adaptive"})
        ticket = await service.ticket()
        ticket.start()
        for word in ("a", "b", "c"):
            ticket.say(word)
        ticket.finish()
        answer = await connection.answer()
        assert answer.body.startswith(b': started\n\ndata: {"text":"abc","done":false}\n\n')
        assert len(ticket.taken) == 5
        await connection.close()

    served(test, service)


def test_the_setting() -> None:
    def chunk(text: str) -> object:
        said = [Override(flag="--set", key="doors.chunk", text=text)]
        return load({"HOME": "/nowhere"}, overrides=said).settings.doors.chunk

    assert [chunk("token"), chunk("adaptive"), chunk("50")] == ["token", "adaptive", 50]
    with pytest.raises(ConfigInvalid, match=r"doors\.chunk must be"):
        chunk("0")
