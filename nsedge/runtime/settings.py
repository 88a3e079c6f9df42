"""What an engine can be told, as values; the configuration maps onto this."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Device(enum.StrEnum):
    """Where models run. AUTO takes the first variant of a bundle that this machine can run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The bounds of one model's engine."""

    slots: int = 16
    """Sequences that hold KV memory at once: one prefilling, the rest decoding."""
    context_tokens: int = 4096
    """Prompt and output of one request; the bundle's own context length where that is less."""
    prefill_chunk_tokens: int = 128
    """Prompt tokens read between two decode steps."""
    max_queue: int = 1024
    """Requests that may wait for a slot."""
    threads: int = 0
    """Threads of a matrix product; 0 is every usable core."""
    device: Device = Device.AUTO
