"""The manifest of an encoder with a head, which labels texts or their tokens, or fills masks."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nsedge.api.labels import Activation
from nsedge.bundle.encoder import ReadsTexts
from nsedge.bundle.fields import AnyVariant, Count, Line, Positive, Sha256, Strict, Variants

LabelNames = Annotated[tuple[Line, ...], Meta(min_length=1)]


class HeadIo(Strict, frozen=True, kw_only=True):
    """Names of the graph's inputs and outputs.

    - input_ids: int64 [B, T], padded at the end.
    - attention_mask: int64 [B, T], 1 for tokens and 0 for padding.
    - token_type_ids: int64 [B, T], 0 for a first text and 1 for a second; None where the graph has
      no such input.
    - places: of a masked LM, int64 [P]: which of the B x T tokens are to be judged; None of others.
    - logits: float32: of a masked LM [P, vocab_size], of a head for whole texts [B, labels], of one
      for tokens [B, T, labels].
    """

    input_ids: Line = "input_ids"
    attention_mask: Line = "attention_mask"
    token_type_ids: Line | None = None
    places: Line | None = None
    logits: Line = "logits"


class ScoreFidelity(Strict, frozen=True, kw_only=True):
    """How near a variant's scores are to those of fp32 of the same weights, over some texts.

    - rows: texts, tokens or masks that were judged.
    - top1: the share of rows whose best label is that of fp32; 1 where there is one label.
    - error: the mean, over rows, of the greatest difference in a score; error_most: the greatest.
    """

    texts: Positive
    rows: Positive
    top1: float
    error: float
    error_most: float
    text_sha256: Sha256


class HeadVariant(AnyVariant, frozen=True, kw_only=True):
    """A headed encoder's graph for one device and precision."""

    io: HeadIo
    fidelity: ScoreFidelity | None = None


class HeadComponents(Strict, frozen=True, kw_only=True):
    """The graphs of a headed encoder: the head lies in them."""

    encoder: Variants[HeadVariant]


class Head(Strict, frozen=True, kw_only=True, tag_field="type"):
    """What a head is."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be asked for, first what its golden samples are of."""
        raise NotImplementedError


class MaskedLm(Head, frozen=True, kw_only=True, tag="masked-lm"):
    """Tells which tokens fit a mask. `mask`: what stands for one in a text; `mask_token_id` is its
    token."""

    mask: Line
    mask_token_id: Count

    @property
    def tasks(self) -> tuple[str, ...]:
        """It fills masks."""
        return ("fill",)


class SequenceClassification(Head, frozen=True, kw_only=True, tag="sequence-classification"):
    """Gives a text, or two, a score for each of `labels`. With one label it is a cross-encoder."""

    labels: LabelNames
    activation: Activation

    @property
    def tasks(self) -> tuple[str, ...]:
        """It labels texts, and scores pairs where its label is one number."""
        return ("classify", "score") if len(self.labels) == 1 else ("classify",)


class TokenClassification(Head, frozen=True, kw_only=True, tag="token-classification"):
    """Gives each token one of `labels`. `outside`: the label of tokens that belong to no span."""

    labels: LabelNames
    outside: Line = "O"

    @property
    def tasks(self) -> tuple[str, ...]:
        """It labels tokens."""
        return ("classify",)


AnyHead = MaskedLm | SequenceClassification | TokenClassification


class HeadedEncoder(ReadsTexts, frozen=True, kw_only=True, tag="headed-encoder"):
    """An encoder that ends in a head."""

    components: HeadComponents
    head: AnyHead

    @property
    def variants(self) -> tuple[HeadVariant, ...]:
        """The encoder's."""
        return self.components.encoder.variants

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be asked for."""
        return self.head.tasks

    @property
    def labels(self) -> tuple[str, ...]:
        """Those that it gives; none where it fills masks."""
        return () if isinstance(self.head, MaskedLm) else self.head.labels

    @property
    def head_kind(self) -> str:
        """What kind of head it is."""
        return str(self.head.__struct_config__.tag)

    @property
    def mask(self) -> str | None:
        """What stands for a mask, where it fills such."""
        return self.head.mask if isinstance(self.head, MaskedLm) else None


class GoldenRow(Strict, frozen=True, kw_only=True):
    """The scores of fp32 for a text, a token or a mask: its best labels, or tokens, by number."""

    labels: tuple[Count, ...]
    scores: tuple[float, ...]


class GoldenScores(Strict, frozen=True, kw_only=True):
    """What the fp32 model made of a text, or of two.

    - ids: its tokens; second: where those of the second text begin, None where there is none.
    - places: of a masked LM, the masks among them; else nothing.
    """

    text: str
    second_text: str | None = None
    ids: tuple[Count, ...]
    second: Count | None = None
    places: tuple[Count, ...] = ()
    rows: tuple[GoldenRow, ...]
