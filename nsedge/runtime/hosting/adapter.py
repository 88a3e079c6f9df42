"""What requests run on: a model in memory, or an adapter on one."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from pathlib import Path

from nsedge.api import ModelInfo, ModelMemory, ModelState
from nsedge.bundle.adapter import Adapter, open_package
from nsedge.runtime.decode.engine import Deliver
from nsedge.runtime.hosting import text as residency
from nsedge.runtime.hosting import trust
from nsedge.runtime.hosting.reading import read_ahead
from nsedge.runtime.hosting.text import TextModel, Told
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.settings import EngineSettings


class AdapterModel:
    """An adapter in memory, on a base that stays there for as long."""

    def __init__(
        self, *, package: Adapter, base: TextModel, told: Told, elsewhere: Callable[[], int]
    ) -> None:
        """Check it against its hashes and its base, and have the base serve it.

        Raises:
            BundleInvalid: a file was altered, or it does not fit the base.
            InsufficientMemory: there is no room for a session that takes adapters.
        """
        files = package.manifest.files.items()
        read_ahead(
            {package.file(name): entry.sha256 for name, entry in files},
            lambda share: told(ModelState.LOADING, share),
        )
        told(ModelState.WARMING, 1.0)
        loaded = base.addons.attach(package, elsewhere)
        self._package = package
        self._base = base
        self._bytes = loaded.nbytes
        self.adapter = loaded.key
        self.manifest, self.capacity = base.manifest, base.capacity
        self.prompts, self.detokenizer, self.engine = base.prompts, base.detokenizer, base.engine

    def start(self) -> None:
        """Nothing: the base's engine runs already."""

    def close(self) -> None:
        """Let the base forget it, once nobody uses it."""
        self._base.addons.detach(self.adapter)

    def measure(self) -> tuple[ModelMemory, Amount]:
        """Its matrices: what else it needs is the base's."""
        held = ModelMemory(
            weights_bytes=self._bytes, kv_bytes=0, arena_bytes=0, kv_reserved_bytes=0
        )
        return held, Amount(self._bytes)

    def kv_bytes(self) -> int:
        """Nothing: its rows lie in the base's cache."""
        return 0

    def info(self) -> ModelInfo:
        """What clients are told."""
        manifest = self._package.manifest
        created = datetime.datetime.fromisoformat(manifest.provenance.created)
        return dataclasses.replace(
            self._base.info(),
            name=self._package.name,
            created=int(created.timestamp()),
        )


Served = TextModel | AdapterModel


def load(
    path: Path,
    *,
    settings: EngineSettings,
    deliver: Deliver,
    clock: Callable[[], float],
    told: Told,
    elsewhere: Callable[[], int],
    base: Served | None,
) -> Served:
    """Open the bundle at `path`, or the adapter, whose `base` is in memory then.

    Raises:
        BundleInvalid: where it is damaged, altered, not signed as it must be, or does not fit.
        DeviceUnavailable: where none of a bundle's variants runs on the wanted device.
    """
    if isinstance(base, TextModel):
        trust.check_signature(path, settings.signers)
        package = Adapter.open(path)
        return AdapterModel(package=package, base=base, told=told, elsewhere=elsewhere)
    return residency.load(
        path, settings=settings, deliver=deliver, clock=clock, told=told, elsewhere=elsewhere
    )


def expected(path: Path, settings: EngineSettings) -> Amount:
    """What a bundle or an adapter can be expected to claim, before it was ever loaded; raises what
    `residency.expected` does."""
    package = open_package(path)
    if isinstance(package, Adapter):
        return Amount(package.manifest.files[package.manifest.weights].bytes)
    return residency.expected(path, settings)
