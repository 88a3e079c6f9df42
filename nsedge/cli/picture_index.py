"""An index of a folder's pictures: a vector of each file, kept on disk, that follows the folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from nsedge.process.state_file import replace_file

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})
MAGIC = b"nsedge-pictures 1\n"
KEY_LENGTH = 24

Floats = NDArray[np.float32]


class Stamp(msgspec.Struct, frozen=True):
    """Size and time of a file: where both are the same, it is as it was."""

    size: int
    changed_ns: int


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the index. reason: why it has no vector; its row is zeros then."""

    path: str
    stamp: Stamp
    reason: str | None = None


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The head of an index, before the vectors. model: their maker, and when that was made."""

    model: str
    dimensions: int
    files: tuple[Kept, ...]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The files that the folder has and the index has not, and the other way round."""

    new: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def wanted(self) -> tuple[str, ...]:
        """Files whose vectors are to be made."""
        return (*self.new, *self.changed)


@dataclass(kw_only=True)
class PictureIndex:
    """The pictures of `folder`, by their paths in it. `place` is the index's file."""

    folder: Path
    place: Path
    model: str
    dimensions: int
    _entries: dict[str, tuple[Kept, Floats]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, state: Path, *, model: str, dimensions: int) -> PictureIndex:
        """That of `folder` below the directory `state`; empty where there is none, or none of
        this `model`, or what is there is damaged."""
        where = os.fsencode(folder.resolve())
        key = hashlib.sha256(where + b"\0" + model.encode()).hexdigest()[:KEY_LENGTH]
        index = cls(
            folder=folder,
            place=state / f"{key}.index",
            model=model,
            dimensions=dimensions,
        )
        index._entries = index._read()
        return index

    def __len__(self) -> int:
        return len(self._entries)

    def changes(self) -> Changes:
        """The differences from the folder as it is now."""
        there = dict(_pictures(self.folder))
        new = [path for path in there if path not in self._entries]
        changed = [
            path
            for path, stamp in there.items()
            if path in self._entries and self._entries[path][0].stamp != stamp
        ]
        removed = [path for path in self._entries if path not in there]
        return Changes(new=tuple(new), changed=tuple(changed), removed=tuple(removed))

    def forget(self, path: str) -> None:
        """The file is gone."""
        self._entries.pop(path, None)

    def keep(self, path: str, stamp: Stamp, vector: Floats) -> None:
        """The vector [dimensions] of a file as it was at `stamp`."""
        self._entries[path] = Kept(path=path, stamp=stamp), np.asarray(vector, np.float32)

    def keep_out(self, path: str, stamp: Stamp, reason: str) -> None:
        """A file as it was at `stamp` has no vector, and is not tried again until it changes."""
        nothing = np.zeros(self.dimensions, np.float32)
        self._entries[path] = Kept(path=path, stamp=stamp, reason=reason), nothing

    def broken(self) -> dict[str, str]:
        """Files without a vector, and why."""
        return {
            path: kept.reason
            for path, (kept, _) in self._entries.items()
            if kept.reason is not None
        }

    def nearest(self, vector: Floats, most: int) -> list[tuple[str, float]]:
        """The files nearest to `vector` [dimensions] of length 1, with their cosines, at most
        `most`."""
        found = [path for path, (kept, _) in self._entries.items() if kept.reason is None]
        if not found:
            return []
        rows = np.stack([self._entries[path][1] for path in found])
        cosines = rows @ vector
        order = np.argsort(-cosines, kind="stable")[:most]
        return [(found[at], float(cosines[at])) for at in order]

    def write(self) -> None:
        """Put the index in the place of the one on disk, whole.

        Raises:
            OSError: the one on disk is as it was.
        """
        head = Head(
            model=self.model,
            dimensions=self.dimensions,
            files=tuple(kept for kept, _ in self._entries.values()),
        )
        rows = [vector for _, vector in self._entries.values()]
        body = np.stack(rows).astype("<f4").tobytes() if rows else b""
        content = MAGIC + msgspec.json.encode(head) + b"\n" + body
        replace_file(self.place, content)

    def _read(self) -> dict[str, tuple[Kept, Floats]]:
        try:
            content = self.place.read_bytes()
        except OSError:
            return {}
        line, _, body = content.removeprefix(MAGIC).partition(b"\n")
        try:
            head = msgspec.json.decode(line, type=Head)
            rows = np.frombuffer(body, "<f4").reshape(len(head.files), head.dimensions)
        except (msgspec.DecodeError, ValueError):  # written by another release, or damaged
            return {}
        if (head.model, head.dimensions) != (self.model, self.dimensions):
            return {}
        made = zip(head.files, rows.astype(np.float32), strict=True)
        return {kept.path: (kept, row) for kept, row in made}


def stamp_of(path: Path) -> Stamp:
    """A file's. Raises OSError."""
    found = path.stat()
    return Stamp(found.st_size, found.st_mtime_ns)


def _pictures(folder: Path) -> Iterator[tuple[str, Stamp]]:
    """The pictures below `folder`, hidden folders left out, by their paths in it."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place) / name
            if path.suffix.lower() not in SUFFIXES or name.startswith("."):
                continue
            inside = str(path.relative_to(folder))
            try:
                inside.encode()
                stamp = stamp_of(path)
            except (OSError, UnicodeEncodeError):  # gone meanwhile, a link to nothing, or no name
                continue
            yield inside, stamp
