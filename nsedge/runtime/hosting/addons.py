"""The adapters on a model in memory: one stack of them, and the session that reads it.

The session is opened for the first adapter, beside the model's own, and closed with the last. All
is called on the thread that models are opened and closed on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from nsedge.bundle.adapter import Adapter, read_matrices
from nsedge.bundle.causal_lm import Variant
from nsedge.bundle.manifest import TextBundle
from nsedge.bundle.mode_adapters import ModeAdapters
from nsedge.errors import BundleInvalid
from nsedge.runtime.graph.adapters import AdapterStack, LoadedAdapter
from nsedge.runtime.graph.executor import Executor
from nsedge.runtime.machine.footprint import Growth


class Addons:
    """What adapters a model has, and what their session takes."""

    def __init__(self, *, bundle: TextBundle, variant: Variant, executor: Executor) -> None:
        self._bundle = bundle
        self._variant = variant
        self._executor = executor
        self._stack: AdapterStack | None = None
        self._numbers = itertools.count(1)
        self.session_bytes = 0
        """What the process grew by when the session was opened."""

    def attach(self, adapter: Adapter, elsewhere: Callable[[], int]) -> LoadedAdapter:
        """Serve `adapter` from now on; raises what `Executor.open_adapters` does, and

        Raises:
            BundleInvalid: it was made for another base, or does not fit it.
        """
        form, sites = adapter.form_for(self._bundle, self._variant.name), adapter.manifest.sites
        if self._stack is not None and self._stack.sites != sites:
            raise BundleInvalid(
                f"{adapter.name} was packaged by another release than the adapters"
                " in memory; unload those, or package it again"
            )
        # The same weights may come twice, where a package is read anew.
        key = f"{adapter.digest} {next(self._numbers)}"
        loaded = LoadedAdapter.of(key, sites, adapter.matrices())
        if self._stack is None:
            growth = Growth(elsewhere)
            stack = AdapterStack(sites, [loaded])
            self._executor.open_adapters(adapter.file(form.graph), stack)
            self.session_bytes = max(0, growth.take() - loaded.nbytes)
        else:
            stack = self._stack.with_(loaded)
            self._executor.use_adapters(stack)
        self._stack = stack
        return stack.adapter(key)

    def attach_modes(self, modes: ModeAdapters | None) -> dict[str, str]:
        """Serve the adapters that the model itself has from now on; by the kind of media that they
        are for, their keys. Raises what `Executor.open_adapters` does, and

        Raises:
            BundleInvalid: one does not fit the model.
        """
        if modes is None:
            return {}
        keys = {kind: f"{kind} {next(self._numbers)}" for kind in modes.matrices}
        loaded = [
            LoadedAdapter.of(
                keys[kind], modes.sites, read_matrices(self._bundle.file(modes.matrices[kind]))
            )
            for kind in keys
        ]
        self._stack = AdapterStack(modes.sites, loaded)
        graph = self._bundle.file(modes.graphs[self._variant.name])
        self._executor.open_adapters(graph, self._stack)
        return keys

    def detach(self, key: str) -> None:
        """Serve it no more; nobody uses it."""
        if self._stack is None:
            return
        stack = self._stack.without(key)
        if stack.adapters:
            self._stack = stack
            self._executor.use_adapters(stack)
        else:
            self._stack, self.session_bytes = None, 0
            self._executor.close_adapters()
