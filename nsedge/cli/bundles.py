"""Which bundles a configuration means."""

from __future__ import annotations

from pathlib import Path

from nsedge.bundle import MANIFEST_FILE, find_bundles
from nsedge.errors import BundleInvalid
from nsedge.settings import Settings

MAKE_ONE = "`nsedge-export starter` makes one"


def chosen(settings: Settings) -> tuple[Path, ...]:
    """The directories of the bundles to serve.

    Raises:
        BundleInvalid: a name that is not there, or none there at all; what is, and what to do.
    """
    found = find_bundles(settings.bundles)
    if settings.models.load:
        return tuple(_named(name, settings.bundles, found) for name in settings.models.load)
    if not found:
        raise BundleInvalid(f"no bundle in {settings.bundles}: {MAKE_ONE}")
    return tuple(found)


def _named(name: str, folder: Path, found: list[Path]) -> Path:
    path = folder / name  # an absolute path stays itself
    if (path / MANIFEST_FILE).is_file():
        return path
    names = ", ".join(one.name for one in found) or f"none; {MAKE_ONE}"
    raise BundleInvalid(f"models.load: no bundle at {path}; in {folder}: {names}")
