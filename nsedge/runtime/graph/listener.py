"""The encoder of a speech model in a session: features of a window in, a row of the memory out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.speech import ListenerVariant
from nsedge.runtime.graph.binding import HostDevice
from nsedge.runtime.graph.conditioning import Memory, write_to
from nsedge.runtime.graph.session import open_session


class Listener:
    """Runs one variant, a window at a time."""

    def __init__(
        self, graph: Path, variant: ListenerVariant, memory: Memory, *, threads: int
    ) -> None:
        """Open `graph`; raises what `open_session` does."""
        self._io = variant.io
        self._memory = memory
        self._states = np.zeros((1, memory.frames, memory.hidden), np.float32)
        self._session = open_session(
            graph, variant.device, threads, requires=variant.requires, patterns=False
        )

    @property
    def provider(self) -> str:
        """The execution provider in use."""
        return str(self._session.get_providers()[0])

    def run(self, features: NDArray[np.float32], row: int) -> NDArray[np.float32]:
        """Write what is heard in `features` [bins, 2 frames] to a row of the memory; what the
        encoder makes of them [1, frames, hidden], valid until the next run."""
        binding = HostDevice().binding(self._session)
        binding.feed(self._io.features, np.ascontiguousarray(features[None], np.float32))
        binding.fetch(self._io.states, self._states)
        write_to(binding, self._io.memory, self._memory, row)
        binding.run()
        return self._states
