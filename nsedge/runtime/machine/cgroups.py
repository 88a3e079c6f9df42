"""The control groups that this process is in, of either version, and the files in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group. Version 2 has one tree of them (`unified`), version 1 one a controller."""

    mount: Path
    path: PurePosixPath
    unified: bool

    def numbers(self, controller: str, file: str) -> tuple[int | None, ...]:
        """The words of a file's first line, None for one that is no number; empty without it."""
        words = self._text(controller, file).partition("\n")[0].split()
        return tuple(int(word) if word.lstrip("-").isdecimal() else None for word in words)

    def counts(self, controller: str, file: str) -> dict[str, int]:
        """The lines of a file such as memory.stat, a name and a number each; empty without it."""
        lines = (line.split() for line in self._text(controller, file).splitlines())
        return {words[0]: int(words[1]) for words in lines if len(words) == 2}

    def _text(self, controller: str, file: str) -> str:
        folder = self.mount if self.unified else self.mount / controller
        try:
            return (folder / self.path / file).read_text(encoding="ascii")
        except (OSError, ValueError):
            return ""


def groups(controller: str, *, proc: Path = PROC, mount: Path = CGROUPS) -> Iterator[Group]:
    """The groups that bind this process for `controller`, its own first, then those above."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if not names or controller in names.split(","):
            for level in _levels(path):
                yield Group(mount=mount, path=level, unified=not names)


def _levels(path: str) -> Iterator[PurePosixPath]:
    """A group and those above; the root alone for one outside this process's view."""
    level = PurePosixPath(path).relative_to("/")
    if ".." not in level.parts:
        while level != PurePosixPath("."):
            yield level
            level = level.parent
    yield PurePosixPath(".")
