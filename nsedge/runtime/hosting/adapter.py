"""An adapter in memory, on a text model that stays there for as long."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable

from nsedge.api import ModelInfo, ModelMemory, ModelState, Request
from nsedge.bundle.adapter import Adapter
from nsedge.runtime.delivery import Emit
from nsedge.runtime.hosting.hosted import Opening, Work
from nsedge.runtime.hosting.reading import read_ahead
from nsedge.runtime.hosting.text import TextModel
from nsedge.runtime.machine.amounts import Amount
from nsedge.runtime.text.prompt import PromptReader


class AdapterModel:
    """Runs in its base's engine, whose rows it shares."""

    def __init__(self, *, package: Adapter, base: TextModel, opening: Opening) -> None:
        """Check it against its hashes and its base, and have the base serve it.

        Raises:
            BundleInvalid: a file was altered, or it does not fit the base.
            InsufficientMemory: there is no room for a session that takes adapters.
        """
        files = package.manifest.files.items()
        read_ahead(
            {package.file(name): entry.sha256 for name, entry in files},
            lambda share: opening.told(ModelState.LOADING, share),
        )
        opening.told(ModelState.WARMING, 1.0)
        loaded = base.addons.attach(package, opening.elsewhere)
        self._package = package
        self._base = base
        self._bytes = loaded.nbytes
        self._key = loaded.key

    def start(self) -> None:
        """Nothing: the base's engine runs already."""

    def accept(self, request: Request, emit: Emit, *, submitted_s: float) -> Work:
        """Have the base do it through the adapter."""
        return self._base.accept(request, emit, submitted_s=submitted_s, adapter=self._key)

    def prompt_reader(self) -> PromptReader:
        """The base's."""
        return self._base.prompts

    def comes_round(self, answer: Callable[[], None]) -> bool:
        """False: its steps are the base's."""
        return False

    def close(self) -> None:
        """Let the base forget it, once nobody uses it."""
        self._base.addons.detach(self._key)

    def measure(self) -> tuple[ModelMemory, Amount]:
        """Its matrices: what else it needs is the base's."""
        held = ModelMemory(
            weights_bytes=self._bytes, kv_bytes=0, arena_bytes=0, kv_reserved_bytes=0
        )
        return held, Amount(self._bytes)

    def cache_bytes(self) -> int:
        """Nothing: its rows lie in the base's cache."""
        return 0

    def stats(self) -> None:
        """None: the base counts its steps."""

    def info(self) -> ModelInfo:
        """What clients are told."""
        manifest = self._package.manifest
        created = datetime.datetime.fromisoformat(manifest.provenance.created)
        return dataclasses.replace(
            self._base.info(),
            name=self._package.name,
            created=int(created.timestamp()),
        )


def expected(package: Adapter) -> Amount:
    """What an adapter can be expected to claim, before it was ever loaded: its matrices."""
    return Amount(package.manifest.files[package.manifest.weights].bytes)
