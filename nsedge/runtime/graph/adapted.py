"""A session with inputs for adapters, and what its runs are bound to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nsedge.runtime.graph.adapters import AdapterStack, Owned, Window
from nsedge.runtime.graph.binding import Binding


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """The session, and the adapters that are loaded. Bindings are of the thread that runs it."""

    graph: Path
    session: Any
    stack: AdapterStack
    _bindings: dict[tuple[int, Window], Binding] = field(default_factory=dict)

    def on(self, session: Any) -> Adapted:
        """The same on another session of the graph."""
        return replace(self, session=session, _bindings={})

    def with_stack(self, stack: AdapterStack) -> Adapted:
        """The same with other adapters."""
        return replace(self, stack=stack, _bindings={})

    def binding(
        self, owned: Many[Owned], *, make: Callable[[Any], Binding], rows: int | None = None
    ) -> Binding:
        """The binding for a run of these tokens: of `rows` rows of a token each, where that is
        given. `make` gives a new one for a session; what it binds is kept, but for the masks."""
        window = self._window(owned)
        key = rows or 0, window
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._bindings[key] = make(self.session)
            self._feed(binding, self.stack.matrices(window))
        self._feed(binding, self.stack.masks(window, owned, by_row=rows is not None))
        return binding

    def once(
        self, owned: Many[Owned], *, make: Callable[[Any], Binding], by_row: bool = False
    ) -> Binding:
        """A binding for one run of these tokens, of one row, or of a row each. Nothing is kept."""
        binding, window = make(self.session), self._window(owned)
        self._feed(binding, self.stack.matrices(window))
        self._feed(binding, self.stack.masks(window, owned, by_row=by_row))
        return binding

    def _window(self, owned: Many[Owned]) -> Window:
        return self.stack.window(one.adapter for one in owned if one.adapter is not None)

    @staticmethod
    def _feed(binding: Binding, arrays: Iterable[tuple[str, NDArray[Any]]]) -> None:
        for name, array in arrays:
            binding.feed(name, array)


def adapted_to(adapted: Adapted | None, owned: Many[Owned]) -> Adapted | None:
    """What runs these tokens, None where none of them goes through an adapter.

    Raises:
        RuntimeError: one does, and none is open.
    """
    if all(one.adapter is None for one in owned):
        return None
    if adapted is None:
        raise RuntimeError("an adapter was asked for that is not loaded")
    return adapted
