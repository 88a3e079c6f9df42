"""Records and comments on the wire."""

from __future__ import annotations

import msgspec
import pytest

from nsedge.api import Loading, ModelState
from nsedge.web.answer_stream import json_text
from nsedge.web.framing import SSE, Framing


@pytest.mark.parametrize(
    "text", ["a", "é", "\u2028", "\u2029", "\x85", "🙂\u2028x", "\r\n\x0b\x1c"]
)
def test_no_reader_finds_a_line_end_in_a_text(text: str) -> None:
    encoded = json_text(text)
    assert len(encoded.decode().splitlines()) == 1
    assert msgspec.json.decode(encoded) == text


def test_a_silence_tells_how_the_model_comes() -> None:
    loading = Loading(
        request_id="r", model="m", state=ModelState.LOADING, position=2, progress=0.25
    )
    assert SSE.silence(None) == b": keep-alive\n\n"
    assert SSE.silence(loading) == b": loading m, 2 before it, 25% read\n\n"


def test_a_format_without_comments_fills_no_silence() -> None:
    lines = Framing(content_type="application/x-ndjson")
    assert lines.record(b"{}") == b"{}\n"
    assert lines.silence(None) == lines.remark("started") == b""
