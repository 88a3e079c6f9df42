"""The models there are: bundles on disk, further names for them, and what is said of each."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from nsedge.api import ModelInfo
from nsedge.api.models import check_alias
from nsedge.bundle import versions
from nsedge.bundle.adapter import SEPARATOR, open_package
from nsedge.bundle.files import MANIFEST_FILE, find_bundles
from nsedge.errors import BundleInvalid, InvalidParameter, NsedgeError, UnknownModel
from nsedge.runtime.residency.entries import Entry

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
"""The folder is read no oftener, unless something came to it or left it: a flood of unknown names
costs nothing."""


class Catalogue:
    """Entries by name. Bundles that come to the folder later are found; those that leave it are
    forgotten when nobody uses them."""

    def __init__(
        self,
        *,
        paths: Iterable[Path],
        folder: Path | None,
        aliases: Mapping[str, str],
        pinned: frozenset[str] = frozenset(),
        clock: Callable[[], float],
    ) -> None:
        """`paths` are served whatever `folder` holds; None is no folder."""
        self._paths = tuple(paths)
        self._folder = folder
        self._clock = clock
        self._aliases = dict(aliases)
        self._pinned = pinned
        self._entries: dict[str, Entry] = {}
        self._looked_s: float | None = None
        self._folder_stamp = 0

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def look(self) -> None:
        """Read the folder anew."""
        self._looked_s, self._folder_stamp = self._clock(), _modified_ns(self._folder)
        folder = find_bundles(self._folder) if self._folder is not None else []
        paths = dict.fromkeys((*self._paths, *folder))
        for path in paths:
            self._see(path)
        for entry in self:
            gone = entry.path not in paths and not (entry.path / MANIFEST_FILE).is_file()
            if gone and entry.load is None and entry.resident is None:
                del self._entries[entry.name]
        for alias, name in self._aliases.items():
            if name in self._entries:
                self._entries[name].aliases.add(alias)

    def at(self, path: Path) -> Entry:
        """The entry of the bundle at `path`.

        Raises:
            BundleInvalid: where there is none; another of the same name has come before.
        """
        for entry in self:
            if entry.path == path:
                return entry
        raise BundleInvalid(f"{path}: a model of that name is served already")

    def find(self, name: str) -> Entry:
        """The entry of that name or alias.

        Raises:
            UnknownModel: naming those there are.
        """
        found = self._get(name)
        if found is None and self._is_due():
            self.look()
            found = self._get(name)
        if found is None:
            self._check_adapter(name)
            served = ", ".join(sorted(self._entries)) or "none"
            raise UnknownModel(f"no model {name!r} here; served: {served}", param="model")
        return found

    def known(self, name: str) -> Entry | None:
        """The entry of that very name; None where there is none."""
        return self._entries.get(name)

    def infos(self) -> tuple[ModelInfo, ...]:
        """What clients are told of each: an adapter has its base's aliases, too."""
        return tuple(self._info(entry) for entry in self)

    def _info(self, entry: Entry) -> ModelInfo:
        info, base = entry.info(), self._entries.get(entry.base or "")
        if base is None:
            return info
        own = entry.name.removeprefix(base.name)
        further = tuple(f"{alias}{own}" for alias in sorted(base.aliases))
        return dataclasses.replace(info, aliases=info.aliases + further)

    def refresh(self) -> None:
        """Read the folder anew where that was not just done."""
        if self._is_due():
            self.look()

    def alias(self, alias: str, name: str | None) -> Entry | None:
        """Give the model `name` a further name, or take it away where `name` is None.

        Raises:
            UnknownModel: there is no such model.
            InvalidParameter: the alias is a model's own name, or none that a model may have.
        """
        check_alias(alias)
        if alias in self._entries:
            raise InvalidParameter(f"{alias!r} is a model's own name", param="alias")
        entry = None if name is None else self.find(name)
        before = self._entries.get(self._aliases.pop(alias, ""))
        if before is not None:
            before.aliases.discard(alias)
        if entry is not None:
            self._aliases[alias] = entry.name
            entry.aliases.add(alias)
        return entry

    def changed(self) -> list[Entry]:
        """Those in memory whose manifest on disk is another than the one they were loaded with."""
        return [
            entry
            for entry in self
            if entry.ready is not None and entry.stamp != stamp_of(entry.path)
        ]

    def reopen(self, entry: Entry) -> None:
        """Read the entry's manifest anew.

        Raises:
            BundleInvalid: where it is damaged, or has another name now.
        """
        package = open_package(entry.path)
        if package.name != entry.name:
            raise BundleInvalid(f"{entry.path} is {package.name} now, no longer {entry.name}")
        entry.manifest, entry.stamp = package.manifest, stamp_of(entry.path)
        entry.error = None

    def _get(self, name: str) -> Entry | None:
        """The entry of a name, of an alias, or of an adapter on an alias's model."""
        found = self._entries.get(name) or self._entries.get(self._aliases.get(name, ""))
        if found is None and SEPARATOR in name:
            alias, _, adapter = name.rpartition(SEPARATOR)
            found = self._entries.get(f"{self._aliases.get(alias, alias)}{SEPARATOR}{adapter}")
        return found

    def _check_adapter(self, name: str) -> None:
        base, _, adapter = name.rpartition(SEPARATOR)
        entry = self._get(base)
        if entry is not None:
            prefix = f"{entry.name}{SEPARATOR}"
            own = sorted(e.name.removeprefix(prefix) for e in self if e.base == entry.name)
            there = ", ".join(own) or "none"
            what = f"no adapter {adapter!r} of {entry.name} here; there are: {there}"
            raise UnknownModel(what, param="model")

    def _is_due(self) -> bool:
        if self._looked_s is None or self._clock() - self._looked_s >= LOOK_EVERY_S:
            return True
        return self._folder_stamp != _modified_ns(self._folder)

    def _see(self, path: Path) -> None:
        known = next((entry for entry in self if entry.path == path), None)
        stamp = stamp_of(path)
        if known is not None and (known.stamp == stamp or known.resident or known.load):
            return  # what is in memory keeps the manifest it was loaded with
        error: NsedgeError | None = None
        try:
            package = open_package(path)
        except BundleInvalid as failure:
            manifest, name, error = None, versions.name_of(path), failure
            log.warning("a bundle cannot be served: %s", failure)
        else:
            manifest, name = package.manifest, package.name
        if known is not None and known.name == name:
            known.manifest, known.stamp, known.error = manifest, stamp, error
            return
        if known is not None:
            del self._entries[known.name]
        if name in self._entries:
            log.warning("%s is not served: %s is %s too", path, self._entries[name].path, name)
            return
        if name in self._aliases:
            log.warning("the alias %s is hidden by the model of that name at %s", name, path)
        self._entries[name] = Entry(
            name=name,
            path=path,
            manifest=manifest,
            stamp=stamp,
            error=error,
            pinned=bool({name, path.name} & self._pinned),
        )


def stamp_of(path: Path) -> int:
    """When the manifest of the bundle at `path` was last written, in nanoseconds; 0 without one."""
    return _modified_ns(path / MANIFEST_FILE)


def _modified_ns(path: Path | None) -> int:
    try:
        return 0 if path is None else path.stat().st_mtime_ns
    except OSError:
        return 0
