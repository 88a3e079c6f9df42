"""The standard streams, on terminals that cannot say everything and where there are none."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from nsedge.process import console


class Stream(io.TextIOWrapper):
    """A stream of some encoding; what was written to it is kept."""

    def __init__(self, encoding: str, content: bytes = b"") -> None:
        super().__init__(io.BytesIO(content), encoding=encoding)

    def written(self) -> bytes:
        self.flush()
        return self.buffer.getvalue()


class Gone(io.StringIO):
    """A stream whose reader went away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def streams(monkeypatch, encoding: str, content: bytes = b"") -> tuple[Stream, Stream]:
    out, err = Stream(encoding), Stream(encoding)
    for name, stream in (("stdin", Stream(encoding, content)), ("stdout", out), ("stderr", err)):
        monkeypatch.setattr(sys, name, stream)
    console.prepare()
    return out, err


def test_what_an_encoding_cannot_say_is_replaced(monkeypatch):
    out, err = streams(monkeypatch, "ascii")
    console.say("é · b", "c")
    console.note("é · b")
    assert out.written() == b"? - b\nc\n"
    assert err.written() == b"? - b\n"


def test_a_status_is_written_over_the_one_before_on_a_terminal_alone(monkeypatch):
    _, err = streams(monkeypatch, "utf-8")
    console.status("25 %")
    assert err.written() == b""
    monkeypatch.setattr(err, "isatty", lambda: True)
    console.status("25 %\x07")
    console.status("")
    assert err.written() == b"\r25 %\\x07\x1b[K\r\x1b[K"


def test_utf8_says_everything_but_control_characters(monkeypatch):
    out, _ = streams(monkeypatch, "utf-8")
    console.say("é · \x1b[31m\nb\udcff")
    assert out.written().decode() == "é · \\x1b[31m\\nb\\udcff\n"


def test_standard_input_said_to_be_ascii_is_read_as_utf8(monkeypatch):
    streams(monkeypatch, "ascii", "é".encode())
    assert console.text_of(sys.stdin.read()) == "é"


def test_bytes_that_are_no_text_are_named(monkeypatch):
    streams(monkeypatch, "utf-8", b"ab\xff")
    with pytest.raises(ValueError, match="byte 0xff after 2 characters is no text"):
        console.text_of(sys.stdin.read())


def test_an_argument_that_an_ascii_locale_took_apart_is_whole_again():
    assert console.text_of("é".encode().decode("ascii", "surrogateescape")) == "é"


def test_a_reader_of_notes_that_went_away_stops_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Gone())
    console.note("lost")


def test_a_reader_of_the_output_that_went_away_is_told(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        console.say("lost")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No such file or directory", "/srv/x"), "/srv/x: No such file or "),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("odd"), "odd"),
        (UnicodeError("no such character"), "no such character"),
    ],
)
def test_an_error_is_told_without_its_number(error, told):
    assert console.reason(error).startswith(told)


CLOSED = """
import os, sys
from nsedge.process import console
console.prepare()
kept = open(os.devnull)
assert kept.fileno() > 2, "a file took the number of a standard stream"
assert sys.stdin.read() == ""
console.note("heard by nobody")
try:
    console.say("lost")
except console.OutputLost as lost:
    said = str(lost)
console.say("after that, nothing is told again")
console.settle()
sys.exit(0 if said == "standard output is closed" else 1)
"""


def test_streams_that_were_closed_before_the_start():
    command = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, CLOSED]
    assert subprocess.run(command, timeout=60).returncode == 0
