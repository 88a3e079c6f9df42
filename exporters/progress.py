"""Lines that tell a person what a long step is at, and for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from tqdm import tqdm

from nsedge.printable import escaped

BEAT_S = 20.0


class Progress:
    """Writes to `stream`, or nowhere where that is None."""

    def __init__(
        self,
        stream: TextIO | None,
        *,
        beat_s: float = BEAT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = None if stream is None else cast(TextIO, _Heedless(stream))
        self._beat_s = beat_s
        self._clock = clock

    def note(self, text: str) -> None:
        """One line, now."""
        if self._stream is not None:
            print(escaped(text), file=self._stream, flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Say that `text` begins, every `beat_s` seconds that it goes on, and when it is done."""
        start_s = self._clock()
        self.note(f"{text} ...")
        done = threading.Event()
        beat = threading.Thread(target=self._beat, args=(text, start_s, done), daemon=True)
        beat.start()
        try:
            yield
        finally:
            done.set()
            beat.join()
        self.note(f"{text}: done in {self._clock() - start_s:.1f} s")

    @contextmanager
    def counted(
        self, text: str, total: int, *, unit: str = "it"
    ) -> Iterator[Callable[[int], None]]:
        """A bar of `total` units with the time left; call what is yielded with how many are done.

        Where nobody watches (no terminal), it is a line every `beat_s` seconds.
        """
        watched = self._stream is not None and self._stream.isatty()
        with tqdm(
            desc=text,
            total=total,
            unit=unit,
            file=self._stream,
            disable=self._stream is None,
            mininterval=0.2 if watched else self._beat_s,
        ) as bar:
            yield bar.update

    def _beat(self, text: str, start_s: float, done: threading.Event) -> None:
        while not done.wait(self._beat_s):
            self.note(f"{text}: {self._clock() - start_s:.0f} s so far")


class _Heedless:
    """A stream that may lose its reader: the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
