"""An encoder in a session: an input in, a row of the memory out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.conditioning import ConditioningVariant
from nsedge.runtime.graph.binding import HostDevice
from nsedge.runtime.graph.conditioning import Memory, write_to
from nsedge.runtime.graph.session import open_session


class MemoryWriter:
    """Runs one variant, an input at a time."""

    def __init__(
        self, graph: Path, variant: ConditioningVariant, memory: Memory, *, reads: str, threads: int
    ) -> None:
        """Open `graph`, which calls its input `reads`; raises what `open_session` does."""
        self._io = variant.io
        self._reads = reads
        self._memory = memory
        self._states = np.zeros((1, memory.frames, memory.hidden), np.float32)
        self._session = open_session(
            graph, variant.device, threads, requires=variant.requires, patterns=False
        )

    @property
    def provider(self) -> str:
        """The execution provider in use."""
        return str(self._session.get_providers()[0])

    def run(self, given: NDArray[np.float32], row: int) -> NDArray[np.float32]:
        """Write what an input, without a dimension for the batch, is about to a row of the memory;
        what the encoder makes of it [1, frames, hidden], valid until the next run."""
        binding = HostDevice().binding(self._session)
        binding.feed(self._reads, np.ascontiguousarray(given[None], np.float32))
        binding.fetch(self._io.states, self._states)
        write_to(binding, self._io.memory, self._memory, row)
        binding.run()
        return self._states
