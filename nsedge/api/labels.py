"""What is asked of models that label texts and pictures, score texts or fill gaps in them, and what
they find."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from nsedge.api.bounds import within
from nsedge.api.inputs import check_count, check_media, check_texts
from nsedge.api.media import Media
from nsedge.errors import InvalidParameter

MAX_TOP_K = 1000
MAX_LABELS = 1000
PLACE = "{}"
"""Where a label goes in a prompt."""

Text = str | tuple[str, str]
"""A text, or two that are read together."""


class Activation(enum.StrEnum):
    """How logits become scores."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    NONE = "none"


class Aggregation(enum.StrEnum):
    """How labels of tokens become spans, as transformers' pipeline has it.

    NONE: each token for itself. SIMPLE: neighbours of one label are joined. The others give all
    tokens of a word one label before that: of its first token, of the mean of its tokens' scores,
    or of its surest token.
    """

    NONE = "none"
    SIMPLE = "simple"
    FIRST = "first"
    AVERAGE = "average"
    MAX = "max"


@dataclass(frozen=True, slots=True, kw_only=True)
class Classify:
    """Give each of `inputs`, texts or pairs of texts, the labels of the model, the surest first; or
    where the model labels tokens, the labelled spans of each text.

    - top_k: labels of each input; None is all. activation: in the place of the model's own. Both
      are for models that label whole texts.
    - aggregation: for models that label tokens; None is simple.
    - truncate: an input longer than the model reads is cut off instead of refused.
    - labels: those that there are, for models that compare texts with texts or pictures; others
      have labels of their own. prompt: the text that one of them is compared as, with {} in its
      place; None is the model's own.
    """

    name: ClassVar[str] = "classify"

    inputs: tuple[Text | Media, ...]
    top_k: int | None = None
    activation: Activation | None = None
    aggregation: Aggregation | None = None
    truncate: bool = False
    labels: tuple[str, ...] = ()
    prompt: str | None = None

    def check(self) -> None:
        """Raises InvalidParameter for no inputs, too many, or values out of range."""
        check_count(len(self.inputs))
        within("top_k", self.top_k, 1, MAX_TOP_K)
        check_media(self.inputs)
        for number, one in enumerate(self.inputs):
            if not (one if isinstance(one, str | Media) else any(one)):
                raise InvalidParameter(f"input {number} is empty", param="inputs")
        self._check_labels()

    def _check_labels(self) -> None:
        count = len(self.labels)
        within("the number of labels", count, 0, MAX_LABELS, param="labels")
        for number, one in enumerate(self.labels):
            if not one or one in self.labels[:number]:
                what = "is there twice" if one else "is empty"
                raise InvalidParameter(f"labels[{number}] {what}", param="labels")
        if self.prompt is not None and PLACE not in self.prompt:
            raise InvalidParameter(f"prompt has no {PLACE} where the label goes", param="prompt")
        if self.prompt is not None and not self.labels:
            raise InvalidParameter("prompt is for labels, and there are none", param="prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """Give the likeliest tokens for each mask in `inputs`, texts with the model's mask in them.

    top_k: tokens for each mask.
    """

    name: ClassVar[str] = "fill"

    inputs: tuple[str, ...]
    top_k: int = 5

    def check(self) -> None:
        """Raises InvalidParameter for no inputs, too many, or values out of range."""
        check_texts(self.inputs)
        within("top_k", self.top_k, 1, MAX_TOP_K)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Give each of `documents` a score that tells how well it answers `query`: a cross-encoder's,
    or where the model makes vectors, the cosine of the two.

    truncate: what is longer than the model reads is cut off instead of refused.
    """

    name: ClassVar[str] = "score"

    query: str
    documents: tuple[str, ...]
    truncate: bool = False

    def check(self) -> None:
        """Raises InvalidParameter for an empty query, no documents, too many, or an empty one."""
        if not self.query:
            raise InvalidParameter("query is empty", param="query")
        check_texts(self.documents, "documents")


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label that was found, and how sure it is.

    - start, end: of a span, its first character in the text and the one behind its last.
    - word: what its tokens are as text, in the way that the tokenizer writes it.
    - index: of a single token, its place among the tokens, special ones counted.
    """

    label: str
    score: float
    start: int | None = None
    end: int | None = None
    word: str | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """A token that fits a mask, as text, and its probability."""

    token_id: int
    token: str
    score: float
