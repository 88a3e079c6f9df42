"""The bundle store of a daemon: its HOME/bundles, with a directory for each version.

A version is copied under a hidden name, flushed, and renamed: it is there whole or not at all. What
a killed run left goes with the next. One run at a time changes the store.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from exporters.cache import new_directory
from exporters.errors import ExportError
from exporters.progress import Progress
from nsedge.bundle import versions
from nsedge.bundle.files import MANIFEST_FILE, find_bundles
from nsedge.bundle.manifest import AnyBundle, Bundle
from nsedge.bundle.versions import MARK
from nsedge.errors import BundleInvalid

OWN_FOLDER = ".deploy"
"""Below the store: the histories of aliases, and the lock."""
SIGNATURE_FILE = f"{MANIFEST_FILE}.minisig"
"""May lie in a bundle; the manifest, which it signs, does not name it."""
PIECE = 2**20


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A bundle to deploy, and the content of its manifest, which decides the version."""

    bundle: AnyBundle
    manifest: bytes

    @property
    def version(self) -> str:
        """What tells it from other versions of its name."""
        return versions.version_of(self.manifest)

    @property
    def served(self) -> str:
        """What clients call it once it is in a store."""
        return versions.versioned_name(self.bundle.manifest.name, self.version)

    @property
    def folder(self) -> str:
        """Its directory in a store."""
        return versions.folder_name(self.bundle.manifest.name, self.version)


def examine(path: Path) -> Candidate:
    """Check every file of the bundle at `path` by its hash.

    Raises:
        BundleInvalid: naming the file that is missing or was altered.
    """
    bundle = Bundle.open(path)
    content = (path / MANIFEST_FILE).read_bytes()
    bundle.verify_hashes()
    return Candidate(bundle=bundle, manifest=content)


class Store:
    """Versions below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def own(self) -> Path:
        """Where the store keeps what is no bundle."""
        return self.folder / OWN_FOLDER

    @contextmanager
    def locked(self, progress: Progress) -> Iterator[None]:
        """Be the only one that changes it; another run is waited for, and its leftovers go."""
        self.own.mkdir(parents=True, exist_ok=True)
        with (self.own / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.note(f"another run changes {self.folder}: waiting for its end")
                fcntl.flock(file, fcntl.LOCK_EX)
            for left in self.folder.glob(f".*{MARK}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield

    def versions(self) -> dict[str, Path]:
        """What clients call the versions here, and where they are."""
        found = [path for path in find_bundles(self.folder) if versions.is_version(path)]
        return {versions.name_of(path): path for path in found}

    def names(self) -> frozenset[str]:
        """The names of all models here that can be read."""
        found = []
        for path in find_bundles(self.folder):
            try:
                found.append(Bundle.open(path).name)
            except BundleInvalid:
                found.append(versions.name_of(path))
        return frozenset(found)

    def holds(self, candidate: Candidate) -> bool:
        """Whether the version is here, and whole."""
        return _is_whole(self.folder / candidate.folder)

    def add(self, candidate: Candidate, *, link: bool, progress: Progress) -> bool:
        """Have the version here, whole; whether it had to be copied, or linked.

        Raises:
            BundleInvalid: a file of it changed meanwhile.
            ExportError: there is no room for it, or it cannot be linked.
            OSError: it cannot be written; nothing is left of it.
        """
        target = self.folder / candidate.folder
        if self.holds(candidate):
            return False
        total = sum(entry.bytes for entry in candidate.bundle.manifest.files.values())
        free = shutil.disk_usage(self.folder).free
        if not link and total > free:
            raise ExportError(f"{self.folder} has {free >> 20} MiB free, {total >> 20} are needed")
        verb = "Linking" if link else "Copying"
        with (
            new_directory(target) as building,
            progress.counted(f"{verb} {candidate.served}", total, unit=" bytes") as done,
        ):
            _fill(building, candidate, link=link, done=done)
        return True

    def remove(self, served: str) -> None:
        """Take a version away; nothing where it is not here."""
        path = self.versions().get(served)
        if path is None:
            return
        hidden = path.with_name(f".{path.name}.gone")
        path.rename(hidden)  # gone at once, for those who look
        shutil.rmtree(hidden, ignore_errors=True)


def _is_whole(path: Path) -> bool:
    if not path.is_dir():
        return False
    try:
        Bundle.open(path).verify_hashes()
    except BundleInvalid:
        return False
    return True


def _fill(building: Path, candidate: Candidate, *, link: bool, done: Callable[[int], None]) -> None:
    """Put the bundle's files into an empty directory; the manifest is the last."""
    source = candidate.bundle.path
    for name, entry in candidate.bundle.manifest.files.items():
        target = building / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if link:
            _link(source / name, target)
            done(entry.bytes)
        elif _copy(source / name, target, done) != entry.sha256:
            raise BundleInvalid(f"{source / name} changed while it was copied")
    if (source / SIGNATURE_FILE).is_file():
        shutil.copyfile(source / SIGNATURE_FILE, building / SIGNATURE_FILE)
    (building / MANIFEST_FILE).write_bytes(candidate.manifest)


def _copy(source: Path, target: Path, done: Callable[[int], None]) -> str:
    """Copy a file; the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while piece := reading.read(PIECE):
            digest.update(piece)
            writing.write(piece)
            done(len(piece))
    return digest.hexdigest()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError as error:
        raise ExportError(
            f"{source} cannot be linked into the store ({error.strerror}): leave --link out"
        ) from error
