"""A model's golden prompts, answered as requests are: what the fp32 model said must be likely here.

This is no measure of fidelity, which the exporter takes: it finds files, kernels and processors
that compute something else.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nsedge.bundle.causal_lm import GoldenPrompt, Variant
from nsedge.errors import BundleInvalid
from nsedge.runtime.decode.plan import Chunk, StepPlan
from nsedge.runtime.decode.runner import StepRunner
from nsedge.runtime.decode.sequence import Limits, Sequence

TOLERANCE = 0.8
"""Of the share of tokens that agreed with fp32 at export, what must agree here: kernels round in
other ways on other processors, which moves near-ties."""

PROMPTS = 2
"""Of a bundle's: the first ones tell a graph that computes something else."""

TOKENS = 8
"""Of each continuation: enough to tell, and a fifth of a second for a small model."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How many tokens of the golden prompts' continuations were the most probable ones."""

    tokens: int
    agreed: int

    @property
    def share(self) -> float:
        """From 0 to 1; 1 where there was nothing to compare."""
        return self.agreed / self.tokens if self.tokens else 1.0


def check(
    prompts: Many[GoldenPrompt],
    runner: StepRunner,
    *,
    variant: Variant,
    slots: int,
    capacity: int,
) -> Agreement:
    """Have `runner` read and continue the prompts, together in as many rows as there are slots.

    What is in its rows is lost. A prompt that does not fit `capacity` tokens is left out.

    Raises:
        BundleInvalid: too few tokens agree.
    """
    fitting = [p for p in prompts if len(p.prompt_ids) + len(p.continuation_ids) <= capacity]
    # The rows that decode are the first ones: who ends first is last.
    fitting.sort(key=lambda prompt: len(prompt.continuation_ids), reverse=True)
    agreed = [
        hit
        for first in range(0, len(fitting), slots)
        for hit in _continue(fitting[first : first + slots], runner)
    ]
    found = Agreement(tokens=len(agreed), agreed=sum(agreed))
    judge(found, variant)
    return found


def judge(found: Agreement, variant: Variant) -> None:
    """Hold what was found of `variant` to what was recorded of it.

    Raises:
        BundleInvalid: too few tokens agree.
    """
    recorded = 1.0 if variant.fidelity is None else variant.fidelity.top1
    hold(found, recorded, variant=variant.name, does="answer its golden prompts")


def hold(found: Agreement, recorded: float, *, variant: str, does: str) -> None:
    """Hold what was found of a variant to the share that was recorded of it; `does` says what it
    has to do.

    Raises:
        BundleInvalid: too few tokens agree.
    """
    if found.share < TOLERANCE * recorded:
        raise BundleInvalid(
            f"variant {variant} does not {does} here: {found.agreed} of {found.tokens} tokens"
            f" agree, {recorded:.0%} did when it was exported; see whether `nsedge doctor` finds it"
            " whole, and export it anew"
        )


def logits_before(runner: StepRunner, prompt: Many[int], written: Many[int]) -> NDArray[np.float32]:
    """Logits [T, V] before each token of what was written after a prompt, about the first row of
    an encoder's memory."""
    sequence = Sequence(
        prompt_ids=(*prompt, *written[:-1]),
        limits=Limits(max_tokens=1),
        submitted_s=0.0,
        memory=0,
        marked=len(prompt) - 1,
    )
    end = len(sequence.prompt_ids)
    chunk = Chunk(sequence=sequence, row=0, start=0, end=end)
    logits = runner.run(StepPlan(copies=(), prefill=(chunk,), decode=()))
    return np.stack([logits.row(row) for row in range(len(logits))])


def _continue(prompts: Many[GoldenPrompt], runner: StepRunner) -> list[bool]:
    """Whether each recorded token was the most probable after those before it."""
    hits: list[bool] = []
    rows = [_sequence(prompt, row) for row, prompt in enumerate(prompts)]
    for row, sequence in enumerate(rows):
        end = len(sequence.prompt_ids)
        chunk = Chunk(sequence=sequence, row=row, start=0, end=end)
        logits = runner.run(StepPlan(copies=(), prefill=(chunk,), decode=()))
        hits.append(int(logits.best(more=False)[0][0]) == sequence.output_ids[0])
        sequence.kv_length = end
    for step in range(1, max((len(row.output_ids) for row in rows), default=0)):
        going = tuple(row for row in rows if len(row.output_ids) > step)
        logits = runner.run(StepPlan(copies=(), prefill=(), decode=going))
        best, _ = logits.best(more=False)
        for sequence, token in zip(going, best.tolist(), strict=True):
            hits.append(token == sequence.output_ids[step])
            sequence.kv_length += 1
    return hits


def _sequence(prompt: GoldenPrompt, row: int) -> Sequence:
    """The prompt and the beginning of its recorded continuation, of which nothing is read yet."""
    recorded = list(prompt.continuation_ids[:TOKENS])
    return Sequence(
        prompt_ids=prompt.prompt_ids,
        limits=Limits(max_tokens=len(recorded)),
        submitted_s=0.0,
        row=row,
        output_ids=recorded,
    )
