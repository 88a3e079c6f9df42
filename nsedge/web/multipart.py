"""Bodies of several parts, multipart/form-data (RFC 7578); pure."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser

from nsedge.errors import BadMessage

FORM = "multipart/form-data"
MAX_PARTS = 64
MAX_BOUNDARY = 70
"""Characters, by RFC 2046."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormPart:
    """A field of a form. Its name may be empty. media_type: None where the part says none, which is
    a text."""

    name: str
    media_type: str | None
    data: bytes

    def text(self) -> str:
        """The field as text.

        Raises:
            BadMessage: where it is not UTF-8.
        """
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            raise BadMessage(
                f"the field {self.name!r} is not UTF-8: {error.reason} at {error.start}",
                param=self.name,
            ) from error


def form_parts(content_type: str, raw: bytes) -> tuple[FormPart, ...]:
    """The fields of a form, in order.

    Raises:
        BadMessage: no boundary, no end, too many parts, or one that says no name.
    """
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary("")
    if not 0 < len(boundary) <= MAX_BOUNDARY:
        raise BadMessage(f"a form wants a boundary of 1 to {MAX_BOUNDARY} characters")
    delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
    _, *pieces = (b"\r\n" + raw).split(delimiter, MAX_PARTS + 2)
    end = next((at for at, piece in enumerate(pieces) if piece.startswith(b"--")), None)
    if len(pieces if end is None else pieces[:end]) > MAX_PARTS:
        raise BadMessage(f"a form has at most {MAX_PARTS} fields")
    if end is None:
        raise BadMessage("the form has no end: its last boundary is missing")
    return tuple(_part(piece) for piece in pieces[:end])


def _part(piece: bytes) -> FormPart:
    line_end, _, rest = piece.partition(b"\r\n")
    head, found, data = rest.partition(b"\r\n\r\n")
    if line_end.strip(b" \t") or not found:
        raise BadMessage("a field of the form has no end of its headers")
    headers = HeaderParser().parsestr(head.decode("utf-8", "replace") + "\r\n\r\n")
    if headers.get("Content-Transfer-Encoding", "binary") not in ("binary", "8bit", "7bit"):
        raise BadMessage("fields of a form have no Content-Transfer-Encoding (RFC 7578)")
    name = headers.get_param("name", header="Content-Disposition")
    if headers.get_content_disposition() != "form-data" or not isinstance(name, str):
        raise BadMessage(
            'a field of the form has no name: Content-Disposition: form-data; name="..."'
        )
    media_type = headers.get_content_type() if "Content-Type" in headers else None
    return FormPart(name=name, media_type=media_type, data=data)
