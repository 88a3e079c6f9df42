"""Wyoming's events as bytes, to the letter, and what is none."""

from __future__ import annotations

import pytest

from nsedge.errors import BadMessage, MessageTooLarge, NsedgeError
from nsedge.web.wyoming.wire import MAX_LINE_BYTES, EventReader, WyomingEvent, encode

# As the wyoming package 1.10.2 writes them.
DESCRIBE = b'{"type": "describe", "version": "1.10.2"}\n'
START = (
    b'{"type": "audio-start", "version": "1.10.2", "data_length": 61}\n'
    b'{"rate": 16000, "width": 2, "channels": 1, "timestamp": null}'
)
CHUNK = (
    b'{"type": "audio-chunk", "version": "1.10.2", "data_length": 61, "payload_length": 4}\n'
    b'{"rate": 16000, "width": 2, "channels": 1, "timestamp": null}\x01\x00\n\x02'
)
STOP = b'{"type": "audio-stop", "version": "1.10.2", "data_length": 19}\n{"timestamp": null}'
FORM = {"rate": 16000, "width": 2, "channels": 1, "timestamp": None}


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_events_of_the_package_are_read_in_pieces_of_any_length(piece: int) -> None:
    whole = DESCRIBE + START + CHUNK + STOP + DESCRIBE
    reader = EventReader()
    found = [
        event for at in range(0, len(whole), piece) for event in reader.feed(whole[at : at + piece])
    ]
    assert found == [
        WyomingEvent(type="describe"),
        WyomingEvent(type="audio-start", data=FORM),
        WyomingEvent(type="audio-chunk", data=FORM, payload=b"\x01\x00\n\x02"),
        WyomingEvent(type="audio-stop", data={"timestamp": None}),
        WyomingEvent(type="describe"),
    ]


def test_data_stands_in_the_line_or_behind_it_or_both() -> None:
    line = b'{"type":"transcribe","data":{"name":"a","language":"de"},"data_length":12}\n'
    (event,) = EventReader().feed(line + b'{"name":"b"}')
    assert event.data == {"name": "b", "language": "de"}


def test_events_are_written_as_the_package_reads_them() -> None:
    event = WyomingEvent(type="transcript", data={"text": "håp"})
    assert encode(event) == (
        b'{"type":"transcript","version":"1.10.0","data_length":15}\n{"text":"h\xc3\xa5p"}'
    )
    assert encode(WyomingEvent(type="transcript-stop")) == (
        b'{"type":"transcript-stop","version":"1.10.0"}\n'
    )
    assert list(EventReader().feed(encode(event))) == [event]


@pytest.mark.parametrize(
    ("data", "error", "param"),
    [
        (b"GET / HTTP/1.1\r\n", BadMessage, None),
        (b"[]\n", BadMessage, None),
        (b'{"data": {}}\n', BadMessage, None),
        (b'{"type": "x", "data_length": -1}\n', BadMessage, "data_length"),
        (b'{"type": "x", "data_length": 99999999}\n', MessageTooLarge, "data_length"),
        (b'{"type": "x", "payload_length": 99999999}\n', MessageTooLarge, "payload_length"),
        (b'{"type": "x", "data_length": 2}\n[]', BadMessage, None),
        (b"[" * 60_000 + b"\n", BadMessage, None),
        (b"x" * (MAX_LINE_BYTES + 1), MessageTooLarge, None),
        (b"x" * (MAX_LINE_BYTES + 1) + b"\n", MessageTooLarge, None),
    ],
)
def test_what_is_no_event_is_refused(
    data: bytes, error: type[NsedgeError], param: str | None
) -> None:
    with pytest.raises(error) as refused:
        list(EventReader().feed(data))
    assert refused.value.param == param
