"""Forms: RFC 7578, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsedge.errors import BadMessage
from nsedge.web.multipart import FormPart, form_parts

TYPE = "multipart/form-data; boundary=xyz"


def field(name: str, data: bytes, *headers: str) -> bytes:
    lines = [f'Content-Disposition: form-data; name="{name}"', *headers]
    return b"--xyz\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + data + b"\r\n"


END = b"--xyz--\r\n"


def test_fields_in_order_with_their_types() -> None:
    raw = (
        b"a preamble\r\n"
        + field("text", "Hé".encode())
        + field("image", b"\x89\r\n\r\n--xy\x00", "Content-Type: image/png")
        + field("empty", b"")
        + END
        + b"an epilogue"
    )
    assert form_parts(TYPE, raw) == (
        FormPart(name="text", media_type=None, data="Hé".encode()),
        FormPart(name="image", media_type="image/png", data=b"\x89\r\n\r\n--xy\x00"),
        FormPart(name="empty", media_type=None, data=b""),
    )


@given(st.binary().filter(lambda data: b"\r\n--xyz" not in data and not data.startswith(b"--xyz")))
def test_any_bytes_come_through(data: bytes) -> None:
    (part,) = form_parts('multipart/form-data; boundary="xyz"', field("f", data) + END)
    assert part.data == data


@pytest.mark.parametrize(
    ("content_type", "raw", "complaint"),
    [
        ("multipart/form-data", END, "wants a boundary"),
        (f"multipart/form-data; boundary={'x' * 71}", END, "wants a boundary"),
        (TYPE, b"", "no end"),
        (TYPE, field("a", b"b"), "no end"),
        (TYPE, field("a", b"b") * 65 + END, "at most 64 fields"),
        (TYPE, b"--xyz\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END, "no name"),
        (TYPE, b'--xyz\r\nContent-Disposition: x; name="a"\r\n\r\nx\r\n' + END, "no name"),
        (TYPE, b"--xyz\r\nno headers\r\n" + END, "no end of its headers"),
        (TYPE, b"--xyzz\r\n\r\nx\r\n" + END, "no end of its headers"),
        (TYPE, field("a", b"", "Content-Transfer-Encoding: base64") + END, "Transfer-Encoding"),
    ],
)
def test_what_is_no_form(content_type: str, raw: bytes, complaint: str) -> None:
    with pytest.raises(BadMessage, match=complaint):
        form_parts(content_type, raw)


@pytest.mark.parametrize("name", ["", "größe", "\u0085", "'a", "a\\b", "x" * 300])
def test_odd_names_of_fields(name: str) -> None:
    (part,) = form_parts(TYPE, field(name, b"b") + END)
    assert part.name == name


def test_sixty_four_fields_are_a_form() -> None:
    assert len(form_parts(TYPE, field("a", b"b") * 64 + END)) == 64


def test_a_text_that_is_none() -> None:
    (part,) = form_parts(TYPE, field("text", b"\xff") + END)
    with pytest.raises(BadMessage, match="'text' is not UTF-8") as caught:
        part.text()
    assert caught.value.param == "text"
