"""What was made of pictures and recordings, by their hash, within a budget."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

ENTRY_BYTES = 512
"""About what an entry takes beside its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaText:
    """What a model made of a medium. audio_s: seconds of sound in it. images: pictures that were
    looked at."""

    text: str
    audio_s: float = 0.0
    images: int = 0


class MediaTexts:
    """The longest unused leave first."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._texts: OrderedDict[tuple[object, ...], MediaText] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._texts)

    def get(self, key: tuple[object, ...]) -> MediaText | None:
        """What was made of the medium `key`."""
        found = self._texts.get(key)
        if found is not None:
            self._texts.move_to_end(key)
        return found

    def keep(self, key: tuple[object, ...], made: MediaText) -> None:
        """Keep what was made of `key`, where it fits at all."""
        before = self._texts.pop(key, None)
        self._bytes += _size(made) - (0 if before is None else _size(before))
        self._texts[key] = made
        while self._bytes > self._budget_bytes:
            _, leaving = self._texts.popitem(last=False)
            self._bytes -= _size(leaving)


def _size(made: MediaText) -> int:
    return ENTRY_BYTES + 4 * len(made.text)
