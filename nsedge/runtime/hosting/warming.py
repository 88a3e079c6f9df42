"""The largest steps that a model will be asked for, so that its arenas are as large as they get
before it is measured, and the first request finds memory and kernels ready.
"""

from __future__ import annotations

from collections.abc import Iterator

from nsedge.runtime.decode.plan import Chunk, StepPlan
from nsedge.runtime.decode.sequence import Limits, Sequence

CONTEXT_TOKENS = 512
"""A piece of a prompt and what precedes it, where attention takes its memory from the arenas. Much
longer ones would take seconds, for arenas that are hardly larger."""


def largest_steps(
    *, slots: int, capacity: int, chunk_tokens: int, context_tokens: int = CONTEXT_TOKENS
) -> Iterator[StepPlan]:
    """A piece of a prompt, the last of `context_tokens`, beside a token for all other rows; then a
    token for every row."""
    end = min(capacity, max(chunk_tokens, context_tokens))
    reader = _sequence(prompt_tokens=end)
    last = Chunk(reader, slots - 1, end - min(chunk_tokens, end), end)
    yield StepPlan(copies=(), prefill=(last,), decode=tuple(map(_running, range(slots - 1))))
    yield StepPlan(copies=(), prefill=(), decode=tuple(map(_running, range(slots))))


def _running(row: int) -> Sequence:
    sequence = _sequence(prompt_tokens=1)
    sequence.row, sequence.kv_length = row, 1
    sequence.output_ids.append(0)
    return sequence


def _sequence(*, prompt_tokens: int) -> Sequence:
    return Sequence(prompt_ids=(0,) * prompt_tokens, limits=Limits(max_tokens=1), submitted_s=0.0)
