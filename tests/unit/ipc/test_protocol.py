"""The envelope and the payloads, without sockets. msgpack is the second opinion on the encoding."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsedge import api
from nsedge.errors import (
    BadMessage,
    MessageTooLarge,
    NsedgeError,
    UnsupportedVersion,
)
from nsedge.ipc import messages as wire
from nsedge.ipc import protocol


def test_unknown_fields_and_integers_for_floats_are_tolerated() -> None:
    frame = msgpack.packb(
        {
            "type": "generate",
            "id": "a",
            "model": "m",
            "text": "x",
            "sampling": {"temperature": 1, "of_tomorrow": [1]},
            "of_tomorrow": {"a": b"b"},
        }
    )
    message = protocol.decode_data(frame)
    assert isinstance(message, wire.Generate)
    assert message.sampling == api.Sampling(temperature=1.0)


@pytest.mark.parametrize(
    ("payload", "param"),
    [
        ({"type": "generate", "id": "a", "model": "m"}, "text"),
        ({"type": "generate", "id": "a", "model": "m", "text": 5}, "text"),
        ({"type": "generate", "id": "", "model": "m", "text": ""}, "id"),
        ({"type": "generate", "id": "x" * 129, "model": "m", "text": ""}, "id"),
        (
            {"type": "generate", "id": "a", "model": "m", "text": "", "sampling": {"top_k": "3"}},
            "sampling.top_k",
        ),
        (
            {"type": "chat", "id": "a", "model": "m", "messages": [{"role": "bard"}]},
            "messages[0].role",
        ),
        ({"type": "embed", "id": "a", "model": "m"}, "inputs"),
        ({"type": "embed", "id": "a", "model": "m", "inputs": "x"}, "inputs"),
        ({"type": "embed", "id": "a", "model": "m", "inputs": ["x", 5]}, "inputs[1]"),
        ({"type": "embed", "id": "a", "model": "m", "inputs": [[1, -1]]}, "inputs[0][1]"),
        ({"type": "credit", "id": "a", "bytes": -1}, "bytes"),
        ({"type": "cancel", "id": "a", "session": b"short"}, "session"),
        ({"type": "hello", "protocol": "one"}, "protocol"),
        ({"type": "dance"}, "type"),
        ({"id": "a"}, "type"),
    ],
)
def test_the_field_at_fault_is_named(payload: dict[str, object], param: str) -> None:
    with pytest.raises(BadMessage) as caught:
        protocol.decode_data(msgpack.packb(payload))
    assert caught.value.param == param


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff\x01",
        b"\x91" * 100_000,
        b"\x81\xa4type\xa5\xff\xff\xff\xff\xff",
        msgpack.packb({"type": "bye"}) + b"more",
        msgpack.packb([1, 2]),
        msgpack.packb({"type": msgpack.Timestamp(1)}),
    ],
    ids=lambda frame: frame[:8].hex(),
)
def test_garbage_is_a_bad_message(frame: bytes) -> None:
    for decode in (protocol.decode_data, protocol.decode_control, protocol.decode_server):
        with pytest.raises(BadMessage):
            decode(frame)
    assert protocol.readable_id(frame) is None


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(-9, 9), inner),
    max_leaves=12,
)
TAGS = st.sampled_from(
    [
        "hello",
        "generate",
        "chat",
        "embed",
        "transcribe",
        "caption",
        "credit",
        "cancel",
        "ping",
        "models",
        "bye",
    ]
)
FIELDS = st.sampled_from(
    [
        "id",
        "model",
        "text",
        "messages",
        "inputs",
        "sampling",
        "credit",
        "bytes",
        "session",
        "protocol",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(frame: bytes) -> None:
    decodes_or_refuses(frame)


@settings(max_examples=100, deadline=None)
@given(TAGS, st.dictionaries(FIELDS, PLAIN))
def test_any_map_decodes_or_is_refused(kind: str, fields: dict[str, object]) -> None:
    decodes_or_refuses(msgpack.packb({"type": kind, **fields}))


def decodes_or_refuses(frame: bytes) -> None:
    for decode in (protocol.decode_data, protocol.decode_control, protocol.decode_server):
        with contextlib.suppress(BadMessage):
            assert decode(frame) is not None
    label = protocol.readable_id(frame)
    assert label is None or 1 <= len(label) <= 128


def test_the_envelope_opens() -> None:
    frames = [protocol.MAGIC, b"one", b"two"]
    assert list(protocol.open_envelope(frames, max_frames=2, max_bytes=14)) == [b"one", b"two"]


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        ([], BadMessage),
        ([b""], BadMessage),
        ([b"", protocol.MAGIC, b"x"], BadMessage),
        ([b"HTTP/1.1"], BadMessage),
        ([b"nsedge/x", b"x"], BadMessage),
        ([protocol.MAGIC], BadMessage),
        ([protocol.MAGIC, b"1", b"2", b"3"], BadMessage),
        ([b"nsedge/2", b"x"], UnsupportedVersion),
        ([protocol.MAGIC, b"123456789"], MessageTooLarge),
    ],
)
def test_the_envelope_is_refused(frames: list[bytes], error: type[NsedgeError]) -> None:
    with pytest.raises(error):
        protocol.open_envelope(frames, max_frames=2, max_bytes=16)


def test_versions() -> None:
    protocol.check_version(protocol.VERSION)
    protocol.check_version("1.999")
    with pytest.raises(UnsupportedVersion, match=r"1\.6, not 2\.0"):
        protocol.check_version("2.0")
