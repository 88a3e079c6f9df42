"""The manifest of a model that makes one vector of each text."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nsedge.bundle.fields import (
    AnyVariant,
    Common,
    Count,
    Line,
    Positive,
    Sha256,
    Strict,
    Tokenizer,
    Variants,
)


class EncoderIo(Strict, frozen=True, kw_only=True):
    """Names of the graph's inputs and outputs.

    - input_ids: int64 [B, T], padded at the end.
    - attention_mask: int64 [B, T], 1 for tokens and 0 for padding.
    - token_type_ids: int64 [B, T], all 0; None where the graph has no such input.
    - embedding: float32 [B, dimensions], pooled, and of length 1 where the manifest says so.
    """

    input_ids: Line = "input_ids"
    attention_mask: Line = "attention_mask"
    token_type_ids: Line | None = None
    embedding: Line = "embedding"


class VectorFidelity(Strict, frozen=True, kw_only=True):
    """How near a variant's vectors are to those of fp32 of the same weights, over some texts: the
    mean and the least cosine. Of a graph that takes pictures, `texts` and `text_sha256` are of
    these."""

    texts: Positive
    cosine: float
    cosine_least: float
    text_sha256: Sha256


class VectorVariant(AnyVariant, frozen=True, kw_only=True):
    """A graph that makes vectors."""

    fidelity: VectorFidelity | None = None


class EncoderVariant(VectorVariant, frozen=True, kw_only=True):
    """An encoder's graph for one device and precision."""

    io: EncoderIo


class EncoderComponents(Strict, frozen=True, kw_only=True):
    """The graphs of a model that makes vectors."""

    encoder: Variants[EncoderVariant]


class EncoderProcessors(Strict, frozen=True, kw_only=True):
    """What reads texts; special tokens are added as the tokenizer's own file says."""

    tokenizer: Tokenizer


class ReadsTexts(Common, frozen=True, kw_only=True):
    """What is known of every model that reads whole texts at once.

    context_length: tokens of one text, special ones among them.
    """

    processors: EncoderProcessors
    context_length: Positive
    vocab_size: Positive
    pad_token_id: Count = 0

    @property
    def tokenizer(self) -> Tokenizer:
        """What reads texts."""
        return self.processors.tokenizer

    def named_files(self) -> list[str]:
        """The files that have a use, all variants' graphs among them."""
        return [*super().named_files(), self.tokenizer.file]


class Encoder(ReadsTexts, frozen=True, kw_only=True, tag="encoder"):
    """A model that makes one vector of each text.

    - dimensions: numbers of a vector.
    - pooling: how the graph makes one vector of those of all tokens.
    - normalised: whether vectors have length 1.
    """

    components: EncoderComponents
    dimensions: Positive
    pooling: Annotated[str, Meta(pattern=r"^(mean|cls|last)\Z")]
    normalised: bool

    @property
    def variants(self) -> tuple[EncoderVariant, ...]:
        """The encoder's."""
        return self.components.encoder.variants

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be asked for; it scores by cosines."""
        return ("embed", "score")


class GoldenVector(Strict, frozen=True, kw_only=True):
    """What the fp32 model made of a text: its token ids, and float32 [dimensions]."""

    text: str
    ids: tuple[Count, ...]
    vector: tuple[float, ...]
