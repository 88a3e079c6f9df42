"""The manifest of a model that writes what is to be seen in a picture."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nsedge.bundle.causal_lm import GenerationDefaults
from nsedge.bundle.conditioning import (
    ConditionedFidelity,
    ConditionedVariant,
    ConditioningIo,
    ConditioningVariant,
    EncoderDecoder,
)
from nsedge.bundle.fields import (
    AnyVariant,
    Common,
    Count,
    Line,
    Positive,
    Sha256,
    Strict,
    Tokenizer,
)
from nsedge.bundle.pictures import PictureSteps


class LookerIo(ConditioningIo, frozen=True, kw_only=True):
    """Names of the graph's inputs and outputs. pixel_values: float32 [1, 3, H, W]."""

    pixel_values: Line = "pixel_values"


class LookerVariant(ConditioningVariant, frozen=True, kw_only=True):
    """The encoder's graph for one device and precision."""

    io: LookerIo


class CaptionFidelity(ConditionedFidelity, frozen=True, kw_only=True):
    """How near a variant is to fp32 over pictures."""

    pictures_sha256: Sha256


class CaptionVariant(ConditionedVariant, frozen=True, kw_only=True):
    """The decoder's graph for one device and precision. seen: how near it is to fp32, with the
    encoder of its name."""

    seen: CaptionFidelity | None = None


class CaptionProcessors(Strict, frozen=True, kw_only=True):
    """What prepares pictures and writes text."""

    tokenizer: Tokenizer
    pictures: PictureSteps


class Search(Strict, frozen=True, kw_only=True):
    """How a caption is sought where a request does not say. beams: captions that are gone on with
    side by side, of which the likeliest counts, by their log-probability divided by their length to
    the power of `length_penalty`; early_stopping: the search ends once that many have ended."""

    beams: Positive = 1
    length_penalty: float = 1.0
    early_stopping: bool = False


class Caption(Common, frozen=True, kw_only=True, tag="caption"):
    """A model that writes what is to be seen in a picture.

    - context_length: tokens of a caption at most, its start and prompt among them.
    - frames: of the encoder's output for a picture.
    - start_id: the token that every caption begins with, and which is not told.
    - max_length: tokens of a caption where a request does not say, its start and prompt among them.
    """

    components: EncoderDecoder[LookerVariant, CaptionVariant]
    processors: CaptionProcessors
    context_length: Positive
    vocab_size: Positive
    frames: Positive
    start_id: Count
    eos_token_ids: Annotated[tuple[Count, ...], Meta(min_length=1)]
    pad_token_id: Count | None = None
    max_length: Positive
    search: Search = Search()
    generation_defaults: GenerationDefaults

    def __post_init__(self) -> None:
        for what, number in (("start", self.start_id), ("end", max(self.eos_token_ids))):
            if number >= self.vocab_size:
                raise ValueError(
                    f"the {what} token {number} is none of the {self.vocab_size} that there are"
                    " logits for"
                )
        if self.max_length > self.context_length:
            raise ValueError("max_length is beyond context_length")

    @property
    def variants(self) -> tuple[AnyVariant, ...]:
        """The decoder's, and then the encoder's."""
        return self.components.variants

    @property
    def tokenizer(self) -> Tokenizer:
        """What reads prompts and writes text."""
        return self.processors.tokenizer

    @property
    def chat_template(self) -> None:
        """None: it is asked with pictures."""

    @property
    def tool_template(self) -> None:
        """None."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be asked for."""
        return ("caption",)

    def named_files(self) -> list[str]:
        """The files that have a use, all variants' graphs among them."""
        return [*super().named_files(), self.tokenizer.file]


class GoldenCaption(Strict, frozen=True, kw_only=True):
    """What the fp32 model wrote, greedily, of the pattern of that number
    (nsedge.runtime.vision.levels), in the size that the graph takes.

    logprobs holds the fp32 log-probability (nats) of each token, teacher-forced.
    """

    pattern: Count
    prompt_ids: tuple[Count, ...]
    continuation_ids: tuple[Count, ...]
    logprobs: tuple[float, ...]
