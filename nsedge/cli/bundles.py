"""Which bundles a configuration means."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from nsedge.bundle import versions
from nsedge.bundle.adapter import is_adapter, open_package
from nsedge.bundle.files import MANIFEST_FILE, find_bundles
from nsedge.config import pairs
from nsedge.config.settings import Settings
from nsedge.errors import BundleInvalid, ConfigInvalid
from nsedge.runtime.residency.aliases import Aliases

MAKE_ONE = "`nsedge-export starter` makes one"


def chosen(settings: Settings) -> tuple[Path, ...]:
    """The directories of the bundles to load at the start: those named and pinned, or every one
    but for versions that no alias stands for; adapters only where they are named.

    Raises:
        ConfigInvalid: a name that is not there; what is.
        BundleInvalid: none there at all; what to do.
    """
    found = [path for path in find_bundles(settings.bundles) if not is_adapter(path)]
    if not found and not settings.models.load:
        raise BundleInvalid(f"no bundle in {settings.bundles}: {MAKE_ONE}")
    wanted = named(settings)
    if settings.models.load:
        return wanted
    served = set(_aliases(settings).values())
    found = [
        path for path in found if not versions.is_version(path) or versions.name_of(path) in served
    ]
    return tuple(dict.fromkeys((*wanted, *found)))


def named(settings: Settings) -> tuple[Path, ...]:
    """The directories of the bundles that the settings name: without these it does not start.

    Raises:
        ConfigInvalid: a name that is not there; what is, and what to do.
    """
    models = settings.models
    first = [_named("models.pin", name, settings) for name in models.pin]
    then = [_named("models.load", name, settings) for name in models.load]
    return tuple(dict.fromkeys((*first, *then)))


def pinned(settings: Settings) -> frozenset[str]:
    """The names of the models to keep; aliases among them are what they stand for now."""
    aliases = _aliases(settings)
    return frozenset(aliases.get(name, name) for name in settings.models.pin)


def strays(settings: Settings) -> Iterator[str]:
    """A line for each alias or keep-alive of the configuration whose model is not there: one may
    come later, or its name is misspelt."""
    models = settings.models
    aliases, keep_alives = pairs.named(models.aliases), pairs.named(models.keep_alives)
    if not aliases and not keep_alives:
        return
    folder = settings.bundles
    paths = {*find_bundles(folder), *(folder / name for name in models.load)}
    names = {name for path in paths for name in _names_of(path)}
    there = f"which is not here; there are: {', '.join(sorted(names)) or 'none'}"
    for alias, name in aliases.items():
        if name not in names:
            yield f"models.aliases: {alias} stands for {name}, {there}"
    for name in keep_alives:
        if name not in names | aliases.keys() | _aliases(settings).keys():
            yield f"models.keep_alives: {name}, {there}"


def _names_of(path: Path) -> Iterator[str]:
    """The names of a bundle; none where it cannot be read."""
    with contextlib.suppress(BundleInvalid):
        yield open_package(path).name


def _named(key: str, name: str, settings: Settings) -> Path:
    folder = settings.bundles
    path = folder / name  # an absolute path stays itself
    if (path / MANIFEST_FILE).is_file():
        return path
    found = find_bundles(folder)
    called = _aliases(settings).get(name, name)
    for one in found:
        if versions.name_of(one) == called:
            return one
    names = ", ".join(one.name for one in found) or f"none; {MAKE_ONE}"
    raise ConfigInvalid(f"{key}: no bundle at {path}; in {folder}: {names}", param=key)


def _aliases(settings: Settings) -> dict[str, str]:
    return Aliases(settings.aliases_file, pairs.named(settings.models.aliases)).current()
