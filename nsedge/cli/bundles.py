"""Which bundles a configuration means."""

from __future__ import annotations

from pathlib import Path

from nsedge.adapter import is_adapter
from nsedge.bundle import MANIFEST_FILE, find_bundles
from nsedge.errors import BundleInvalid
from nsedge.settings import Settings

MAKE_ONE = "`nsedge-export starter` makes one"


def chosen(settings: Settings) -> tuple[Path, ...]:
    """The directories of the bundles to load at the start: those named and pinned, or every one;
    adapters only where they are named.

    Raises:
        BundleInvalid: a name that is not there, or none there at all; what is, and what to do.
    """
    found = [path for path in find_bundles(settings.bundles) if not is_adapter(path)]
    if not found and not settings.models.load:
        raise BundleInvalid(f"no bundle in {settings.bundles}: {MAKE_ONE}")
    wanted = named(settings)
    return wanted if settings.models.load else tuple(dict.fromkeys((*wanted, *found)))


def named(settings: Settings) -> tuple[Path, ...]:
    """The directories of the bundles that the settings name: without these it does not start.

    Raises:
        BundleInvalid: a name that is not there; what is, and what to do.
    """
    found, models = find_bundles(settings.bundles), settings.models
    pinned = [_named("models.pin", name, settings.bundles, found) for name in models.pin]
    loaded = [_named("models.load", name, settings.bundles, found) for name in models.load]
    return tuple(dict.fromkeys((*pinned, *loaded)))


def _named(key: str, name: str, folder: Path, found: list[Path]) -> Path:
    path = folder / name  # an absolute path stays itself
    if (path / MANIFEST_FILE).is_file():
        return path
    names = ", ".join(one.name for one in found) or f"none; {MAKE_ONE}"
    raise BundleInvalid(f"{key}: no bundle at {path}; in {folder}: {names}")
