"""How near a quantised graph is to fp32 of the same weights, position by position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exporters.graph.records import GoldenResult
from exporters.measure.runner import Runner
from exporters.model.texts import TextReader
from nsedge.bundle.causal_lm import Fidelity, GoldenPrompt

GOLDEN_TOKENS = 24


ANSWER_TOKENS = 48


class Predictor(Protocol):
    """Predicts the tokens of a text."""

    capacity: int
    """Tokens that it has room for."""

    def log_probs(self, ids: list[int]) -> NDArray[np.float32]:
        """Log-probabilities [len(ids), V] after each token, anew from the first."""


def measure(
    reference: Predictor, variant: Predictor, passages: Sequence[Sequence[int]], *, text_sha256: str
) -> Fidelity:
    """Run both over every passage, in pieces that there is room for, each from an empty cache."""
    kl: list[float] = []
    agree: list[bool] = []
    loss = {"reference": 0.0, "variant": 0.0}
    predicted = 0
    for ids in _pieces(passages, min(reference.capacity, variant.capacity)):
        wanted, got = reference.log_probs(ids), variant.log_probs(ids)
        kl.extend(divergence(w, g) for w, g in zip(wanted, got, strict=True))
        agree.extend((wanted.argmax(-1) == got.argmax(-1)).tolist())
        at = (np.arange(len(ids) - 1), np.array(ids[1:]))
        loss["reference"] -= float(wanted[at].sum(dtype=np.float64))
        loss["variant"] -= float(got[at].sum(dtype=np.float64))
        predicted += len(ids) - 1
    return Fidelity(
        positions=len(kl),
        kl=round(float(np.mean(kl)), 6),
        top1=round(float(np.mean(agree)), 4),
        perplexity=round(float(np.exp(loss["variant"] / predicted)), 4),
        perplexity_fp32=round(float(np.exp(loss["reference"] / predicted)), 4),
        text_sha256=text_sha256,
    )


def _pieces(passages: Sequence[Sequence[int]], room: int) -> Iterator[list[int]]:
    for passage in passages:
        for begin in range(0, len(passage), room):
            piece = list(passage[begin : begin + room])
            if len(piece) > 1:  # a single token predicts nothing
                yield piece


def divergence(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """KL(wanted || got) in nats, of log-probabilities [V]."""
    exact = wanted.astype(np.float64)
    return float((np.exp(exact) * (exact - got)).sum())


def continue_greedily(
    reference: Runner, text: str, prompt_ids: Sequence[int], ends: Sequence[int]
) -> GoldenPrompt:
    """A golden prompt of the tokens that `greedy` chooses."""
    chosen, log_probs = greedy(reference, prompt_ids, ends, most=GOLDEN_TOKENS)
    return GoldenPrompt(
        text=text,
        prompt_ids=tuple(prompt_ids),
        continuation_ids=tuple(chosen),
        logprobs=tuple(log_probs),
    )


def greedy(
    runner: Runner, prompt_ids: Sequence[int], ends: Sequence[int], *, most: int
) -> tuple[list[int], list[float]]:
    """The most probable token again and again, up to an end of sequence; and its log-probability.

    At most `most` tokens, and no more than there is room for.
    """
    chosen: list[int] = []
    log_probs: list[float] = []
    row = runner.log_probs(list(prompt_ids))[-1]
    most = min(most, runner.capacity - len(prompt_ids))
    while True:
        chosen.append(int(row.argmax()))
        log_probs.append(round(float(row.max()), 5))
        if len(chosen) >= most or chosen[-1] in ends:
            return chosen, log_probs
        row = runner.next_log_probs(chosen[-1])


def answers(
    runner: Runner, reader: TextReader, prompts: Sequence[str], ends: Sequence[int]
) -> tuple[str, ...]:
    """The graph's greedy answer to each prompt; "" to one that there is no room for."""
    said = []
    for prompt in prompts:
        ids = reader.question(prompt)
        room = len(ids) < runner.capacity
        chosen = greedy(runner, ids, ends, most=ANSWER_TOKENS)[0] if room else []
        said.append(reader.tokenizer.decode(chosen, skip_special_tokens=True))
    return tuple(said)


def run_golden(runner: Runner, prompts: Sequence[GoldenPrompt]) -> GoldenResult:
    """Feed each prompt with its recorded continuation and compare what the graph makes of it."""
    agree: list[bool] = []
    difference: list[float] = []
    for prompt in prompts:
        ids = [*prompt.prompt_ids, *prompt.continuation_ids]
        start = len(prompt.prompt_ids) - 1
        rows = runner.log_probs(ids[:-1], start)
        wanted = np.array(prompt.continuation_ids)
        agree.extend((rows.argmax(-1) == wanted).tolist())
        got = rows[np.arange(len(wanted)), wanted]
        difference.extend(np.abs(got - np.array(prompt.logprobs)).tolist())
    return GoldenResult(
        tokens=len(agree), top1=float(np.mean(agree)), difference=float(np.mean(difference))
    )
