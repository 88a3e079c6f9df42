"""What a run of the graph reads and writes, bound by address once and run many times."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from nsedge.bundle.causal_lm import GraphIo, KvLayout, PromptIo
from nsedge.runtime.graph.kv import HostKv, KvMemory, View, host_view


class Binding(Protocol):
    """Inputs and outputs of a graph, which it keeps alive; each run reads them anew."""

    def feed(self, name: str, array: NDArray[Any]) -> None:
        """Let the graph read `array`."""
        ...

    def feed_host(self, name: str, array: NDArray[Any]) -> None:
        """Let the graph read `array` where it is, in host memory."""
        ...

    def fetch(self, name: str, array: NDArray[Any]) -> None:
        """Let the graph write to `array`."""
        ...

    def place(self, past: str, present: str, view: View) -> None:
        """Let the graph extend `view` in place."""
        ...

    def show(self, name: str, view: View) -> None:
        """Let the graph read `view`."""
        ...

    def give(self, name: str, view: View) -> None:
        """Let the graph write to `view`."""
        ...

    def run(self) -> None:
        """Run the graph."""
        ...


class Device(Protocol):
    """Where a model's cache lies and its runs take place."""

    def memory(self, layout: KvLayout, *, rows: int, capacity: int) -> KvMemory:
        """An empty cache."""
        ...

    def binding(self, session: Any, *, repeats: int | None = None) -> Binding:
        """A binding to run once, or again and again under a number of its own."""
        ...


class HostDevice:
    """The CPU."""

    def memory(self, layout: KvLayout, *, rows: int, capacity: int) -> HostKv:
        """An empty cache."""
        return HostKv(layout, rows=rows, capacity=capacity, dtype=layout.dtype)

    def binding(self, session: Any, *, repeats: int | None = None) -> HostBinding:
        """A binding; on the CPU all are alike."""
        return HostBinding(session)


class HostBinding:
    """A binding of host memory, by address: nothing is copied."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._arrays: dict[str, NDArray[Any]] = {}

    def feed(self, name: str, array: NDArray[Any]) -> None:
        """Let the graph read `array`."""
        self._arrays[name] = array
        bind(self._binding.bind_input, name, host_view(array))

    def feed_host(self, name: str, array: NDArray[Any]) -> None:
        """Let the graph read `array`."""
        self.feed(name, array)

    def fetch(self, name: str, array: NDArray[Any]) -> None:
        """Let the graph write to `array`."""
        self._arrays[name] = array
        bind(self._binding.bind_output, name, host_view(array))

    def place(self, past: str, present: str, view: View) -> None:
        """Let the graph extend `view` in place."""
        bind(self._binding.bind_input, past, view)
        bind(self._binding.bind_output, present, view)

    def show(self, name: str, view: View) -> None:
        """Let the graph read `view`."""
        bind(self._binding.bind_input, name, view)

    def give(self, name: str, view: View) -> None:
        """Let the graph write to `view`."""
        bind(self._binding.bind_output, name, view)

    def run(self) -> None:
        """Run the graph."""
        self._session.run_with_iobinding(self._binding)


def bind(to: Any, name: str, view: View) -> None:
    """Call ONNX Runtime's bind_input or bind_output with `view`."""
    to(name, view.device, 0, view.dtype, list(view.shape), view.address)


def place_cache(
    binding: Binding, names: GraphIo | PromptIo, memory: KvMemory, *, first: int, rows: int
) -> None:
    """Let the graph extend `rows` rows of a cache from `first` on."""
    for layer, (keys, values) in enumerate(memory.views(first, rows)):
        past, present = names.past_key, names.present_key
        binding.place(past.format(layer=layer), present.format(layer=layer), keys)
        past, present = names.past_value, names.present_value
        binding.place(past.format(layer=layer), present.format(layer=layer), values)
