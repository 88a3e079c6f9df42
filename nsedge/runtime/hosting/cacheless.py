"""What models have in common that keep nothing between two requests: a loop, and what is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nsedge.api import ModelMemory
from nsedge.runtime.loop import WorkLoop
from nsedge.runtime.machine.amounts import Amount


class CachelessModel:
    """A model in memory that has a loop and no cache."""

    _loop: WorkLoop[Any]
    _weights_bytes: int
    _arena_bytes: int

    def start(self) -> None:
        """Let the loop run."""
        self._loop.start()

    def prompt_reader(self) -> None:
        """None: nothing goes on from its prompts."""

    def comes_round(self, answer: Callable[[], None]) -> bool:
        """Have the loop call `answer` between two of its steps."""
        self._loop.ask(answer)
        return True

    def close(self) -> None:
        """End the loop, once nobody uses it."""
        self._loop.stop()

    def measure(self) -> tuple[ModelMemory, Amount]:
        """What it holds: it has no cache."""
        held = ModelMemory(
            weights_bytes=self._weights_bytes,
            kv_bytes=0,
            arena_bytes=self._arena_bytes,
            kv_reserved_bytes=0,
        )
        return held, Amount(held.weights_bytes + held.arena_bytes)

    def cache_bytes(self) -> int:
        """Nothing."""
        return 0
