"""Where a version is to be served: a running daemon, or one that is to start later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Protocol

from exporters.deploy.store import Candidate, Store
from exporters.errors import ExportError
from exporters.progress import Progress
from nsedge.api import LoadWish, ModelInfo, ModelState
from nsedge.bundle.caption import Caption
from nsedge.bundle.causal_lm import CausalLm
from nsedge.bundle.dual_encoder import DualEncoder
from nsedge.bundle.encoder import Encoder
from nsedge.bundle.headed import HeadedEncoder
from nsedge.bundle.speech import Speech
from nsedge.config import pairs
from nsedge.config.settings import Settings
from nsedge.errors import ConnectionLost, NsedgeError, UnknownModel
from nsedge.ipc import reach
from nsedge.ipc.client import Client
from nsedge.runtime.hosting.golden import Agreement
from nsedge.runtime.hosting.golden_scores import Closeness
from nsedge.runtime.hosting.golden_vectors import Nearness
from nsedge.runtime.residency.aliases import Aliases

RETIRED_S = 60.0
"""How long a version that was replaced stays in memory unused: going back to it is quick."""
NAME = "nsedge-export"
_AT_REST = frozenset({ModelState.ABSENT, ModelState.FAILED})


class Target(Protocol):
    """What deploying needs of it."""

    def aliases(self) -> Mapping[str, str]:
        """What each alias stands for."""

    def names(self) -> frozenset[str]:
        """The models' own names."""

    def bring(self, model: str, *, instead: str | None) -> None:
        """Have a model ready, kept in memory as `instead` is. Raises NsedgeError."""

    def try_out(self, candidate: Candidate) -> Agreement | Nearness | Closeness | None:
        """Have it answer its golden samples; None where nobody can be asked. Raises
        NsedgeError."""

    def switch(self, alias: str, model: str) -> None:
        """Let `alias` stand for `model`. Raises NsedgeError or ExportError."""

    def retire(self, model: str) -> None:
        """Let a version that nothing stands for leave memory, when its last request has ended."""

    def drop(self, model: str, *, instead: str | None) -> None:
        """A model is not wanted after all; `instead` is to be there as before."""

    def at_rest(self, model: str) -> bool:
        """Whether nothing of it is in memory."""


class RunningDaemon:
    """A daemon that is asked."""

    def __init__(self, client: Client, store: Store, progress: Progress) -> None:
        self._client = client
        self._store = store
        self._progress = progress
        self._brought: dict[str, ModelInfo] = {}
        self._there = frozenset(m.name for m in client.models() if m.state is ModelState.READY)

    def aliases(self) -> Mapping[str, str]:
        """As the daemon has them."""
        return {alias: one.name for one in self._client.models() for alias in one.aliases}

    def names(self) -> frozenset[str]:
        """As the daemon has them."""
        return frozenset(one.name for one in self._client.models())

    def bring(self, model: str, *, instead: str | None) -> None:
        """Load it, and have the daemon check its hashes and golden samples as it does."""
        old = self._find(instead)
        wish = LoadWish(
            model=model,
            keep_alive_s=None if old is None else old.keep_alive_s,
            pin=True if old is not None and old.pinned else None,
        )
        try:
            with self._progress.step(f"Loading {model}"):
                self._brought[model] = self._client.load(wish).model
        except UnknownModel as error:
            raise ExportError(
                f"the daemon does not find {model}: is {self._store.folder} its HOME/bundles?"
                " --store names another"
            ) from error

    def try_out(self, candidate: Candidate) -> Agreement | Nearness | Closeness:
        """Ask it the golden samples as clients ask."""
        from exporters.deploy.trial import try_out  # tokenizers: only to try one out
        from exporters.deploy.trial_captions import try_out_captions
        from exporters.deploy.trial_scores import try_out_scores
        from exporters.deploy.trial_speech import try_out_speech
        from exporters.deploy.trial_vectors import try_out_towers, try_out_vectors

        bundle, info = candidate.bundle, self._brought[candidate.served]
        with self._progress.step(f"Trying {candidate.served} out"):
            if isinstance(bundle.manifest, Encoder):
                return try_out_vectors(self._client, bundle.of_kind(Encoder), info)
            if isinstance(bundle.manifest, HeadedEncoder):
                return try_out_scores(self._client, bundle.of_kind(HeadedEncoder), info)
            if isinstance(bundle.manifest, DualEncoder):
                return try_out_towers(self._client, bundle.of_kind(DualEncoder), info)
            if isinstance(bundle.manifest, Speech):
                return try_out_speech(self._client, bundle.of_kind(Speech), info)
            if isinstance(bundle.manifest, Caption):
                return try_out_captions(self._client, bundle.of_kind(Caption), info)
            return try_out(self._client, bundle.of_kind(CausalLm), info)

    def switch(self, alias: str, model: str) -> None:
        """The daemon does so at once; what runs on the old one ends on it."""
        unkept = self._client.alias(alias, model).unkept
        if unkept is not None:
            self._progress.note(
                f"this holds until the daemon stops, but is not kept over a restart: {unkept};"
                f" once that is mended, `nsedge alias {alias} {model}` keeps it"
            )

    def retire(self, model: str) -> None:
        """Have it leave a while after its last request; the switch stands, whatever comes of it."""
        with contextlib.suppress(NsedgeError):
            old = self._find(model)
            if old is not None and old.state is ModelState.READY and not old.aliases:
                pin = False if old.pinned else None
                self._client.load(LoadWish(model=model, keep_alive_s=RETIRED_S, pin=pin))

    def drop(self, model: str, *, instead: str | None) -> None:
        """Unload it, unless it was there before; load again what had to leave for it."""
        with contextlib.suppress(NsedgeError):
            if model not in self._there:
                self._client.unload(model, drain_s=0.0)
        with contextlib.suppress(NsedgeError):
            if instead in self._there:
                self._client.load(LoadWish(model=instead))

    def at_rest(self, model: str) -> bool:
        """As the daemon says."""
        found = self._find(model)
        return found is None or found.state in _AT_REST

    def _find(self, model: str | None) -> ModelInfo | None:
        return next((one for one in self._client.models() if one.name == model), None)


class StoppedDaemon:
    """A daemon that does not run: what is said here holds from its next start on."""

    def __init__(self, store: Store, configured: Mapping[str, str]) -> None:
        """`configured` are the aliases of its configuration."""
        self._store = store
        path = store.folder.parent / "state" / "aliases.json"
        self._aliases = Aliases(path, configured)

    def aliases(self) -> Mapping[str, str]:
        """As it will have them."""
        return self._aliases.current()

    def names(self) -> frozenset[str]:
        """As they are in the store."""
        return self._store.names()

    def bring(self, model: str, *, instead: str | None) -> None:
        """It loads what aliases stand for as it starts.

        Raises:
            ExportError: there is no such model.
        """
        if model not in self.names():
            raise ExportError(f"no model {model} in {self._store.folder}")

    def try_out(self, candidate: Candidate) -> None:
        """It checks as it loads."""

    def switch(self, alias: str, model: str) -> None:
        """Keep it where the daemon reads it.

        Raises:
            ExportError: it cannot be written.
        """
        self._aliases.say(alias, model)
        unkept = self._aliases.save()
        if unkept is not None:
            raise ExportError(f"aliases beside {self._store.folder} cannot be written: {unkept}")

    def retire(self, model: str) -> None:
        """Nothing is in memory."""

    def drop(self, model: str, *, instead: str | None) -> None:
        """Nothing is in memory."""

    def at_rest(self, model: str) -> bool:
        """Nothing is in memory."""
        return True


@contextlib.contextmanager
def reached(settings: Settings, store: Store, progress: Progress) -> Iterator[RunningDaemon | None]:
    """The daemon at the configured endpoint; None where nobody is there.

    Raises:
        NsedgeError: it does not let us in.
    """
    try:
        client = reach.to_core(settings, name=NAME)
    except ConnectionLost:
        yield None
        return
    with client:
        yield RunningDaemon(client, store, progress)


@contextlib.contextmanager
def running(settings: Settings, store: Store, progress: Progress) -> Iterator[RunningDaemon]:
    """The daemon at the configured endpoint.

    Raises:
        ExportError: nobody is there.
        NsedgeError: it does not let us in.
    """
    with reached(settings, store, progress) as daemon:
        if daemon is None:
            raise ExportError(
                f"no daemon at {settings.core.endpoint}: start one with `nsedge up`, name another"
                " with --to, or deploy for its next start with --offline"
            )
        yield daemon


@contextlib.contextmanager
def stopped(settings: Settings, store: Store, progress: Progress) -> Iterator[StoppedDaemon]:
    """The daemon that will be at the configured endpoint.

    Raises:
        ExportError: it runs, and would not notice.
    """
    with reached(settings, store, progress) as daemon:
        if daemon is not None:
            raise ExportError(
                f"a daemon runs at {settings.core.endpoint}, and would not notice: leave --offline"
                " out"
            )
    yield StoppedDaemon(store, pairs.named(settings.models.aliases))
