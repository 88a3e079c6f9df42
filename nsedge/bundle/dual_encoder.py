"""The manifest of a model with a tower for texts and one for pictures, whose vectors compare: CLIP,
SigLIP and their like."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nsedge.bundle.encoder import EncoderProcessors, ReadsTexts, VectorVariant
from nsedge.bundle.fields import Count, Line, Positive, Strict, Variants
from nsedge.bundle.pictures import PictureSteps

GOLDEN_PICTURES = "embed_pictures"
"""The golden samples that are pictures; those of `embed` are texts."""


class TextTowerIo(Strict, frozen=True, kw_only=True):
    """Names of the graph's input and output.

    - input_ids: int64 [B, T], padded at the end.
    - embedding: float32 [B, dimensions], of length 1.
    """

    input_ids: Line = "input_ids"
    embedding: Line = "embedding"


class ImageTowerIo(Strict, frozen=True, kw_only=True):
    """Names of the graph's input and output.

    - pixel_values: float32 [B, 3, H, W].
    - embedding: float32 [B, dimensions], of length 1.
    """

    pixel_values: Line = "pixel_values"
    embedding: Line = "embedding"


class TextTower(VectorVariant, frozen=True, kw_only=True):
    """A graph that makes vectors of texts, for one device and precision."""

    io: TextTowerIo


class ImageTower(VectorVariant, frozen=True, kw_only=True):
    """A graph that makes vectors of pictures, for one device and precision."""

    io: ImageTowerIo


class DualEncoderComponents(Strict, frozen=True, kw_only=True):
    """The two towers, in variants of the same names."""

    text: Variants[TextTower]
    image: Variants[ImageTower]

    def __post_init__(self) -> None:
        texts = [variant.name for variant in self.text.variants]
        images = [variant.name for variant in self.image.variants]
        if texts != images:
            raise ValueError(f"the towers have other variants: {texts} of text, {images} of image")


class DualEncoderProcessors(EncoderProcessors, frozen=True, kw_only=True):
    """What reads texts, and what prepares pictures."""

    pictures: PictureSteps


class Likelihood(Strict, frozen=True, kw_only=True):
    """How a cosine becomes a likelihood: scale x cosine + bias, then a softmax over all labels
    (CLIP), or a sigmoid of each (SigLIP)."""

    function: Annotated[str, Meta(pattern=r"^(softmax|sigmoid)\Z")]
    scale: float
    bias: float = 0.0


class DualEncoder(ReadsTexts, frozen=True, kw_only=True, tag="dual-encoder"):
    """A model that makes vectors of texts and of pictures, which compare. All have length 1.

    - is_padded: texts are padded to context_length with pad_token_id, as the model was trained.
    - dimensions: numbers of a vector.
    - patches: what a picture is cut into: what it counts in a batch beside tokens.
    - prompt: the text that a label is compared as, with {} in its place; the default is that of
      transformers' pipeline.
    """

    components: DualEncoderComponents
    processors: DualEncoderProcessors
    is_padded: bool = False
    dimensions: Positive
    patches: Positive
    likelihood: Likelihood
    prompt: Annotated[str, Meta(pattern=r"\{\}")] = "This is a photo of {}."

    @property
    def variants(self) -> tuple[VectorVariant, ...]:
        """Of both towers."""
        return (*self.components.text.variants, *self.components.image.variants)

    @property
    def steps(self) -> PictureSteps:
        """What prepares pictures."""
        return self.processors.pictures

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be asked for; it scores by cosines, and labels by likelihoods of these."""
        return ("embed", "score", "classify")

    def image_tower(self, name: str) -> ImageTower:
        """The tower for pictures in a variant; raises KeyError where there is none."""
        return {variant.name: variant for variant in self.components.image.variants}[name]


class GoldenPicture(Strict, frozen=True, kw_only=True):
    """What the fp32 model made of the pattern of that number (nsedge.runtime.vision.levels), in the
    size that the graph takes: float32 [dimensions]."""

    pattern: Count
    vector: tuple[float, ...]
