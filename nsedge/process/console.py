"""The standard streams of a command: fit for any text, and for being closed. What is written for
people goes through here."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import TextIO

from nsedge.printable import escaped

_ASCII = ("ascii", "us-ascii", "ansi_x3.4-1968", "646")


class OutputLost(Exception):
    """Standard output takes no more: a full disk, or a stream that was closed from the start."""


def prepare() -> None:
    """Have three streams that take and give any text.

    - What a terminal's encoding cannot say is written as a replacement character.
    - Standard input is read as UTF-8 where it is said to be ASCII, which that includes; bytes that
      are no text come as lone surrogates, which `text_of` refuses.
    - A stream that was closed before the start is /dev/null: no other file takes its number.
      Writing to standard output then fails, as it should; standard error is written to nobody.
    """
    sys.stdin = _opened(0, sys.stdin, os.O_RDONLY)
    sys.stdout = _opened(1, sys.stdout, os.O_RDONLY)
    sys.stderr = _opened(2, sys.stderr, os.O_WRONLY)
    if isinstance(sys.stdin, io.TextIOWrapper):
        ascii_only = sys.stdin.encoding.lower() in _ASCII
        encoding = "utf-8" if ascii_only else sys.stdin.encoding
        sys.stdin.reconfigure(encoding=encoding, errors="surrogateescape")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _opened(number: int, stream: TextIO | None, flags: int) -> TextIO:
    """`stream`, or /dev/null in its place where it was closed."""
    if stream is not None:
        return stream
    try:
        os.fstat(number)
    except OSError:
        void = os.open(os.devnull, flags)
        os.dup2(void, number)  # inherited by children, as a standard stream is
        if void != number:
            os.close(void)
        else:
            os.set_inheritable(number, True)
    raw = open(number, "rb" if number == 0 else "wb", closefd=False)  # noqa: SIM115  # for good
    return io.TextIOWrapper(raw, encoding="utf-8", errors="replace")


def text_of(text: str) -> str:
    """`text` as it came from standard input or the command line, whole.

    Raises:
        ValueError: it holds bytes that are no text; the message names the first.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        with contextlib.suppress(UnicodeError):  # a locale of ASCII passes UTF-8 on in pieces
            return text.encode("utf-8", "surrogateescape").decode("utf-8")
        byte = ord(text[error.start]) & 0xFF
        raise ValueError(f"byte 0x{byte:02x} after {error.start} characters is no text") from None
    return text


def say(*lines: object) -> None:
    """Write lines to standard output, control characters escaped in what others chose.

    Raises:
        OutputLost: they cannot be written.
        BrokenPipeError: nobody reads any more.
    """
    write("".join(f"{shown(str(line), sys.stdout)}\n" for line in lines))


def note(line: object) -> None:
    """Write a line to standard error, as `say` does; it is lost where nobody reads there."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{shown(str(line), sys.stderr)}\n")
        sys.stderr.flush()


def status(line: str) -> None:
    """Write `line` over the one before on standard error, where that is a terminal; empty, take
    that away."""
    if sys.stderr.isatty():
        with contextlib.suppress(OSError):
            sys.stderr.write(f"\r{shown(line, sys.stderr)}\x1b[K")
            sys.stderr.flush()


def write(text: str) -> None:
    """Write `text` to standard output as it is, at once; empty, what was written before. After a
    failure the rest goes nowhere.

    Raises:
        OutputLost: it cannot be written.
        BrokenPipeError: nobody reads any more.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        raise
    except OSError as error:
        _discard(sys.stdout)
        closed = error.errno == errno.EBADF
        why = "standard output is closed" if closed else f"standard output: {error.strerror}"
        raise OutputLost(why) from error


def shown(line: str, stream: TextIO) -> str:
    """A line as `stream` can say it: control characters escaped, the dots between figures plain."""
    line = escaped(line)
    return line if encodes_everything(stream) else line.replace("\N{MIDDLE DOT}", "-")


def encodes_everything(stream: TextIO) -> bool:
    """Whether any text can be written to it as it is."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")


def settle() -> None:
    """Write what is left, or let it go nowhere: the interpreter's own last flush cannot fail."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _discard(stream)


def _discard(stream: TextIO) -> None:
    """Let what is left, and whatever comes, go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        void = os.open(os.devnull, os.O_WRONLY)
        os.dup2(void, stream.fileno())
        os.close(void)


def reason(error: Exception) -> str:
    """An error as people want it: `/srv/x: No such file or directory`, without a number."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
