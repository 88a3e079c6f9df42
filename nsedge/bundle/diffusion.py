"""The manifest of a model that makes pictures of prompts, by taking noise away step by step in the
latent space of an autoencoder: Stable Diffusion and its like."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nsedge.bundle.fields import (
    AnyVariant,
    Common,
    Count,
    Line,
    Positive,
    RelativePath,
    Strict,
    Tokenizer,
    Variants,
)
from nsedge.bundle.scheduler import SchedulerConfig

PreviewRow = tuple[float, ...]


class TextEncoderIo(Strict, frozen=True, kw_only=True):
    """Names of the graph's input and outputs.

    - input_ids: int64 [B, context_length].
    - states: float32 [B, context_length, width], what the denoiser attends to.
    - pooled: float32 [B, pooled width], None where the denoiser takes no such thing of it.
    """

    input_ids: Line = "input_ids"
    states: Line = "states"
    pooled: Line | None = None


class DenoiserIo(Strict, frozen=True, kw_only=True):
    """Names of the graph's inputs and output.

    - sample: float32 [B, channels, H, W].
    - timestep: float32 [B], of each row its own.
    - states: float32 [B, T, width], those of all text encoders side by side.
    - pooled: float32 [B, width]; sizes: float32 [B, 6], the height and width that the picture is
      said to have had, where it is said to be cut, its height and width. None where the graph has
      no such input.
    - output: float32 [B, latent_channels, H, W].
    """

    sample: Line = "sample"
    timestep: Line = "timestep"
    states: Line = "states"
    pooled: Line | None = None
    sizes: Line | None = None
    output: Line = "output"


class DecoderIo(Strict, frozen=True, kw_only=True):
    """Names of the graph's input and output.

    - latents: float32 [B, latent_channels, H, W].
    - pixels: float32 [B, 3, H * latent_factor, W * latent_factor], from -1 to 1.
    """

    latents: Line = "latents"
    pixels: Line = "pixels"


class EncoderIo(Strict, frozen=True, kw_only=True):
    """Names of the graph's input and outputs: those of `DecoderIo`, the other way; of the latents
    the mean and the deviation."""

    pixels: Line = "pixels"
    mean: Line = "mean"
    deviation: Line = "deviation"


class ImageFidelity(Strict, frozen=True, kw_only=True):
    """How near a variant is to fp32 of the same weights, over `images` pictures of `steps` steps,
    their levels from 0 to 1: the mean and the greatest difference of a level, and the peak signal
    to noise ratio, in decibels."""

    images: Positive
    steps: Positive
    mean_difference: float
    greatest_difference: float
    psnr_db: float


class TextEncoderVariant(AnyVariant, frozen=True, kw_only=True):
    """A text encoder's graph for one device and precision."""

    io: TextEncoderIo


class DenoiserVariant(AnyVariant, frozen=True, kw_only=True):
    """The denoiser's graph for one device and precision. fidelity: of pictures that all graphs of
    this name make together."""

    io: DenoiserIo
    fidelity: ImageFidelity | None = None


class DecoderVariant(AnyVariant, frozen=True, kw_only=True):
    """The graph from latents to pixels, for one device and precision."""

    io: DecoderIo


class EncoderVariant(AnyVariant, frozen=True, kw_only=True):
    """The graph from pixels to latents, for one device and precision."""

    io: EncoderIo


class DiffusionComponents(Strict, frozen=True, kw_only=True):
    """The graphs of a model. Text encoders and the denoiser have variants of the same names; the
    autoencoder may have fewer, and the first of its device is run where it has none of a name."""

    text_encoders: Annotated[tuple[Variants[TextEncoderVariant], ...], Meta(min_length=1)]
    denoiser: Variants[DenoiserVariant]
    decoder: Variants[DecoderVariant]
    encoder: Variants[EncoderVariant] | None = None

    def __post_init__(self) -> None:
        wanted = [variant.name for variant in self.denoiser.variants]
        for number, encoder in enumerate(self.text_encoders):
            found = [variant.name for variant in encoder.variants]
            if found != wanted:
                raise ValueError(
                    f"text encoder {number} has the variants {found}, the denoiser {wanted}"
                )


class PromptReading(Strict, frozen=True, kw_only=True):
    """How a text encoder reads a prompt: the tokens that the tokenizer in `tokenizer` makes of it,
    between begin_id and end_id, then pad_id up to context_length."""

    tokenizer: RelativePath
    context_length: Annotated[int, Meta(ge=3)]
    vocab_size: Positive
    begin_id: Count
    end_id: Count
    pad_id: Count

    def __post_init__(self) -> None:
        if max(self.begin_id, self.end_id, self.pad_id) >= self.vocab_size:
            raise ValueError("a token around prompts is none of the vocabulary's")


class DiffusionProcessors(Strict, frozen=True, kw_only=True):
    """What reads prompts, for each text encoder."""

    prompts: Annotated[tuple[PromptReading, ...], Meta(min_length=1)]


class Diffusion(Common, frozen=True, kw_only=True, tag="diffusion"):
    """A model that makes pictures of prompts.

    - latent_channels: of what is denoised; latent_factor: pixels to a side of one of its places.
    - size_step: height and width of a picture are multiples of it.
    - height, width, steps, guidance: of a picture where a request does not say.
    - scaling, shift: latents as they are denoised are (what the encoder gives - shift) * scaling.
    - scheduler: the model's own, and the noise that it was taught.
    - empty_is_zero: what an empty negative prompt becomes is zeros.
    - preview: for red, green and blue, from -1 to 1, what each channel of latents adds, and what is
      there anyway: a small picture without the decoder. None where nobody knows.
    """

    components: DiffusionComponents
    processors: DiffusionProcessors
    latent_channels: Positive
    latent_factor: Positive
    size_step: Positive
    height: Positive
    width: Positive
    steps: Positive
    guidance: float
    scaling: float
    shift: float = 0.0
    scheduler: SchedulerConfig
    empty_is_zero: bool = False
    preview: tuple[PreviewRow, PreviewRow, PreviewRow] | None = None

    def __post_init__(self) -> None:
        if len(self.components.text_encoders) != len(self.processors.prompts):
            raise ValueError("there are as many readers of prompts as text encoders")
        if any(len(row) != self.latent_channels + 1 for row in self.preview or ()):
            raise ValueError("a row of preview has a number for each channel of latents, and one")
        if self.size_step % self.latent_factor:
            raise ValueError("size_step is no multiple of latent_factor")
        if self.height % self.size_step or self.width % self.size_step:
            raise ValueError(f"height and width are no multiples of {self.size_step}")

    @property
    def variants(self) -> tuple[AnyVariant, ...]:
        """The denoiser's, and then those of all other graphs."""
        parts = self.components
        encoder = () if parts.encoder is None else parts.encoder.variants
        texts = (variant for texts in parts.text_encoders for variant in texts.variants)
        return (*parts.denoiser.variants, *texts, *parts.decoder.variants, *encoder)

    @property
    def tokenizer(self) -> Tokenizer:
        """What the first text encoder reads prompts with."""
        return Tokenizer(file=self.processors.prompts[0].tokenizer)

    @property
    def vocab_size(self) -> int:
        """Of the first text encoder."""
        return self.processors.prompts[0].vocab_size

    @property
    def context_length(self) -> int:
        """Of the first text encoder, which longer prompts come to in pieces."""
        return self.processors.prompts[0].context_length

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be asked for."""
        return ("imagine",)

    def named_files(self) -> list[str]:
        """The files that have a use, all variants' graphs among them."""
        readers = dict.fromkeys(reader.tokenizer for reader in self.processors.prompts)
        return [*super().named_files(), *readers]


class GoldenImage(Strict, frozen=True, kw_only=True):
    """What the fp32 graphs made of a prompt's tokens, for each text encoder, and of the noise of
    numpy's generator with that seed, float32 [latent_channels, side, side].

    - denoised: numbers of the denoiser's output at `timestep`, evenly spaced; sizes are those of
      the picture.
    - decoded: numbers of the decoder's output for the noise itself, evenly spaced.
    """

    ids: tuple[tuple[Count, ...], ...]
    seed: Count
    side: Positive
    timestep: float
    denoised: tuple[float, ...]
    decoded: tuple[float, ...]
