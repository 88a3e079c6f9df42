"""Forms (multipart/form-data) as clients send them."""

from __future__ import annotations

FORM = {"content_type": "multipart/form-data; boundary=xyz"}


def form(*fields: tuple[str, bytes] | tuple[str, bytes, str]) -> bytes:
    """The body of a form; a field may say its content type."""
    parts = []
    for name, data, *kind in fields:
        typed = f"\r\nContent-Type: {kind[0]}" if kind else ""
        head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"{typed}\r\n\r\n'
        parts.append(head.encode() + data + b"\r\n")
    return b"".join(parts) + b"--xyz--\r\n"
