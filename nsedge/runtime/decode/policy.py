"""What a scheduler can be told."""

from __future__ import annotations

from dataclasses import dataclass

from nsedge.runtime.decode.prefix import BLOCK_TOKENS
from nsedge.runtime.settings import PrefixReuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the scheduler can be told. Times are seconds of the engine's clock."""

    max_waiting: int
    chunk_tokens: int = 128
    """Prompt tokens read at once while nothing decodes."""
    prefix_reuse: PrefixReuse = PrefixReuse.EXACT
    prefix_block_tokens: int = BLOCK_TOKENS
    stretch: float = 2.0
    """How often its quiet time 99 of 100 decode steps may take, reading between steps included."""
    burst_s: float = 4.0
    """How long prompts that come together, to an engine at rest, may take most of the time."""
    drafts: bool = True
    """Whether the model can read tokens after those of a running row, with logits for each."""
    mixed: bool = False
    """Whether a run of the model takes tokens of running rows and pieces of prompts alike."""
