"""Examples as token ids, and the order in which a run sees them: a function of seed and step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporters.errors import ExportError
from exporters.finetune.examples import Example, PictureFile
from exporters.finetune.settings import Settings
from nsedge.runtime.text.control import ControlTokens

NO_TARGET = -100
"""What torch's cross-entropy leaves out."""
GROUPED = 16
"""Batches among which examples of like length are put together."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """One example: ids [n], for each of them whether it is to be learnt [n], and the pictures whose
    tokens are among them."""

    ids: NDArray[np.int64]
    learnt: NDArray[np.bool_]
    pictures: tuple[PictureFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Tokenised:
    """A dataset as tokens; how many were cut to the greatest length, and how many fell away."""

    examples: tuple[Tokens, ...]
    cut: int
    dropped: int

    @property
    def learnt(self) -> int:
        """Tokens to be learnt, in all."""
        return sum(int(example.learnt.sum()) for example in self.examples)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples filled up on the right to the same length, [B, n].

    `targets` holds the id that follows where it is to be learnt, and `NO_TARGET` elsewhere.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    targets: NDArray[np.int64]
    pictures: tuple[PictureFile, ...] = ()
    """Of the rows one after the other."""

    @property
    def learnt(self) -> int:
        """Targets that count."""
        return int((self.targets != NO_TARGET).sum())


def tokenise(
    examples: Iterable[Example],
    control: ControlTokens,
    *,
    max_tokens: int,
    picture_token: int | None = None,
) -> Tokenised:
    """Token ids of the examples' text: the template's control tokens are tokens, and none is added.

    What is longer than `max_tokens` is cut there; where nothing is left to learn, or a picture is
    cut off or through, it is dropped. picture_token: what stands for each row of one.
    """
    kept, cut, dropped = [], 0, 0
    for example in examples:
        tokens = _tokens(example, control)
        short = Tokens(
            ids=tokens.ids[:max_tokens],
            learnt=tokens.learnt[:max_tokens],
            pictures=example.pictures,
        )
        is_seen = not example.pictures or picture_token not in tokens.ids[max_tokens:]
        if not (is_seen and short.learnt[1:].any()):
            dropped += 1
            continue
        cut += len(short.ids) < len(tokens.ids)
        kept.append(short)
    return Tokenised(examples=tuple(kept), cut=cut, dropped=dropped)


def _tokens(example: Example, control: ControlTokens) -> Tokens:
    encoding = control.encode_with_offsets(example.rendered)
    learnt = np.zeros(len(encoding.ids), np.bool_)
    reached = 0
    for i, (begin, end) in enumerate(encoding.offsets):
        # Some tokenizers leave white space out of a token's offsets, and the pieces of one
        # character share it: a token reaches from where the one before it ended, at the latest.
        begin = min(begin, reached)
        reached = max(reached, end)
        learnt[i] = any(begin < last and end > first for first, last in example.learn)
    return Tokens(ids=np.array(encoding.ids, np.int64), learnt=learnt)


def padded(examples: Sequence[Tokens]) -> Batch:
    """One batch of these examples."""
    shape = (len(examples), max(len(example.ids) for example in examples))
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    targets = np.full(shape, NO_TARGET, np.int64)
    for row, example in enumerate(examples):
        length = len(example.ids)
        ids[row, :length] = example.ids
        mask[row, :length] = 1
        targets[row, : length - 1] = np.where(example.learnt[1:], example.ids[1:], NO_TARGET)
    pictures = tuple(picture for example in examples for picture in example.pictures)
    return Batch(ids=ids, mask=mask, targets=targets, pictures=pictures)


def in_order(examples: Sequence[Tokens], batch: int) -> list[Batch]:
    """All examples by length, for measuring: the least filling up."""
    by_length = sorted(examples, key=lambda example: len(example.ids))
    return [padded(by_length[i : i + batch]) for i in range(0, len(by_length), batch)]


def batches_of_step(examples: Sequence[Tokens], settings: Settings, step: int) -> list[Batch]:
    """What step `step`, from 1, learns from."""
    epoch, at = divmod(step - 1, settings.steps_an_epoch(len(examples)))
    order = epoch_order([len(example.ids) for example in examples], settings, epoch)
    first = at * settings.accumulate
    return [
        padded([examples[i] for i in chosen])
        for chosen in order[first : first + settings.accumulate]
    ]


def epoch_order(lengths: Sequence[int], settings: Settings, epoch: int) -> list[list[int]]:
    """Each example once, as batches: shuffled, like lengths together, and shuffled again."""
    random = np.random.default_rng([settings.seed, epoch])
    shuffled = random.permutation(len(lengths)).tolist()
    group = GROUPED * settings.batch
    batches = []
    for begin in range(0, len(shuffled), group):
        near = sorted(shuffled[begin : begin + group], key=lambda i: lengths[i])
        batches += [near[i : i + settings.batch] for i in range(0, len(near), settings.batch)]
    return [batches[i] for i in random.permutation(len(batches))]


def check_ids(tokenised: Tokenised, vocabulary: int) -> None:
    """Hold the ids to the size of the embedding.

    Raises:
        ExportError: a token lies beyond it.
    """
    greatest = max((int(example.ids.max()) for example in tokenised.examples), default=0)
    if greatest >= vocabulary:
        raise ExportError(
            f"the tokenizer gives the id {greatest}, but the model knows only {vocabulary} tokens"
        )
