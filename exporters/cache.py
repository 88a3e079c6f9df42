"""What has been made once is not made again: directories named by a hash of all that made them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from exporters.progress import Progress

CACHE_VARIABLE = "NSEDGE_CACHE"
HOME_VARIABLE = "NSEDGE_HOME"
KEY_LENGTH = 24
KEPT_S = 30 * 86400.0

Inputs = Mapping[str, object]


def cache_root() -> Path:
    """$NSEDGE_CACHE, else $XDG_CACHE_HOME/nsedge, else ~/.cache/nsedge."""
    return _place(CACHE_VARIABLE, "XDG_CACHE_HOME", ".cache")


def home() -> Path:
    """$NSEDGE_HOME, else $XDG_DATA_HOME/nsedge, else ~/.local/share/nsedge."""
    return _place(HOME_VARIABLE, "XDG_DATA_HOME", ".local/share")


def _place(variable: str, base_variable: str, base: str) -> Path:
    if own := os.environ.get(variable):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get(base_variable) or Path.home() / base) / "nsedge"


def folder_digest(folder: Path) -> str:
    """A hash of the names and contents of every file below `folder`."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder)}\0{content}\n".encode())
    return digest.hexdigest()


class Cache:
    """Finished results below `root`, as STAGE/KEY directories; a half-made one is never seen.

    What nobody used for `KEPT_S` goes when something new of its stage is made.
    """

    def __init__(
        self, root: Path, progress: Progress, *, now: Callable[[], float] = time.time
    ) -> None:
        self.root = root
        self._progress = progress
        self._now = now

    @property
    def progress(self) -> Progress:
        """Where what takes long is told."""
        return self._progress

    def key(self, inputs: Inputs) -> str:
        """The name of what `inputs` make; they must be plain JSON."""
        text = json.dumps(inputs, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]

    def get(self, stage: str, inputs: Inputs, *, title: str, make: Callable[[Path], None]) -> Path:
        """The result of `inputs`: the kept one, or what `make` writes into an empty directory.

        A second process that wants the same waits for the first.
        """
        path = self.root / stage / self.key(inputs)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path.with_suffix(".lock")):
            if path.is_dir():
                self._progress.note(f"{title}: kept from before ({path})")
            else:
                with self._progress.step(title), new_directory(path) as building:
                    make(building)
            os.utime(path, (self._now(), self._now()))
        self._forget_unused(path.parent)
        return path

    @contextmanager
    def unfinished(self, stage: str, key: str) -> Iterator[Path]:
        """A directory that work in progress comes back to; a second process waits for the first.

        It stays when it is left, until somebody deletes it or nobody has used it for `KEPT_S`.
        """
        path = self.root / stage / key
        path.mkdir(parents=True, exist_ok=True)
        with _lock(path.with_suffix(".lock")):
            path.mkdir(exist_ok=True)
            os.utime(path, (self._now(), self._now()))
            yield path
        self._forget_unused(path.parent)

    def _forget_unused(self, stage: Path) -> None:
        for path in [path for path in stage.iterdir() if path.is_dir()]:
            if self._now() - path.stat().st_mtime > KEPT_S:
                shutil.rmtree(path, ignore_errors=True)

    def link(self, kind: str, name: str, target: Path) -> None:
        """Remember the result `target` under another name."""
        path = self.root / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "w") as file:
            file.write(str(target.relative_to(self.root)))
        os.replace(temporary, path)

    def follow(self, kind: str, name: str) -> Path | None:
        """The result remembered under `name`, if it is still there."""
        path = self.root / kind / name
        if not path.is_file():
            return None
        target = self.root / path.read_text()
        return target if target.is_dir() else None


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """An empty sibling that is flushed to disk and takes the name `path` at the end, or vanishes.

    What is at `path` already is set aside until the new one stands in its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield building
        building.chmod(0o755)
        for inside in building.rglob("*"):
            inside.chmod(inside.stat().st_mode | (0o755 if inside.is_dir() else 0o644))
        _flush(building)
        _put_in_place(building, path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _put_in_place(building: Path, path: Path) -> None:
    if not path.exists():
        building.rename(path)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    path.rename(aside / path.name)
    try:
        building.rename(path)
    except OSError:
        (aside / path.name).rename(path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        _flush_one(path.parent)


def _flush(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder, folder.parent]:
        _flush_one(path)


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
