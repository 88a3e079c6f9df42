"""The versions in a store, with where they came from and whether they are served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporters.deploy import history
from exporters.deploy.store import Store
from exporters.errors import ExportError
from nsedge.bundle.manifest import Bundle, Manifest
from nsedge.errors import BundleInvalid

HEADS = ("VERSION", "SERVED AS", "DEPLOYED", "CREATED", "SCHEMES", "SOURCE", "REVISION")


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A stored version. `manifest` is None where `error` says what is wrong with it."""

    model: str
    path: Path
    manifest: Manifest | None
    error: str | None
    served_as: tuple[str, ...]
    """Aliases that stand for it."""
    deployed: dict[str, str]
    """Alias to when it was last given this version, ISO 8601, UTC."""


def listed(store: Store, aliases: Mapping[str, str], alias: str | None) -> tuple[Listed, ...]:
    """What `store` holds, the last deployed first; of one alias, what it stands or stood for.

    Raises:
        ExportError: nothing is known of `alias`, or a history is damaged.
    """
    histories = history.read_all(store)
    found = []
    for model, path in store.versions().items():
        manifest, error = _manifest(path)
        deployed = {
            each.alias: one.deployed for each in histories if (one := each.find(model)) is not None
        }
        served_as = tuple(sorted(name for name, target in aliases.items() if target == model))
        if alias is None or alias in deployed or alias in served_as:
            found.append(
                Listed(
                    model=model,
                    path=path,
                    manifest=manifest,
                    error=error,
                    served_as=served_as,
                    deployed=deployed,
                )
            )
    if alias is not None and not found:
        raise ExportError(f"{alias} stands for no version in {store.folder}, and never did")
    return tuple(sorted(found, key=_last_deployed, reverse=True))


def as_result(versions: Sequence[Listed], *, asked: str | None) -> dict[str, object]:
    """For programs. `asked` is the endpoint of the daemon that said what is served."""
    return {"daemon": asked, "versions": [_as_object(one) for one in versions]}


def as_lines(versions: Sequence[Listed]) -> list[str]:
    """For people."""
    if not versions:
        return ["no versions"]
    rows = [HEADS, *(_row(one) for one in versions)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _manifest(path: Path) -> tuple[Manifest | None, str | None]:
    try:
        return Bundle.open(path).manifest, None
    except BundleInvalid as error:
        return None, error.message


def _last_deployed(one: Listed) -> tuple[bool, str, str]:
    return bool(one.served_as), max(one.deployed.values(), default=""), one.model


def _as_object(one: Listed) -> dict[str, object]:
    result: dict[str, object] = {
        "model": one.model,
        "path": str(one.path),
        "serving": bool(one.served_as),
        "served_as": list(one.served_as),
        "deployed": one.deployed,
        "error": one.error,
    }
    if one.manifest is not None:
        provenance = one.manifest.provenance
        result |= {
            "created": provenance.created,
            "source": provenance.source,
            "revision": provenance.revision,
            "licence": provenance.licence,
            "schemes": _schemes(one.manifest),
        }
    return result


def _row(one: Listed) -> tuple[str, ...]:
    deployed = max(one.deployed.values(), default="-")
    head = (one.model, ", ".join(one.served_as) or "-", deployed)
    if one.manifest is None:
        return (*head, "-", "-", one.error or "-", "-")
    provenance = one.manifest.provenance
    schemes = ", ".join(_schemes(one.manifest))
    return (*head, provenance.created, schemes, provenance.source, provenance.revision or "-")


def _schemes(manifest: Manifest) -> list[str]:
    return list(dict.fromkeys(variant.scheme for variant in manifest.variants))
