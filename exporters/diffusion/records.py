"""What is known of the graphs of a model of pictures; read without the libraries that made them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from exporters.graph.records import Record
from nsedge.bundle.diffusion import (
    DecoderIo,
    DecoderVariant,
    DenoiserIo,
    DenoiserVariant,
    EncoderIo,
    EncoderVariant,
    ImageFidelity,
    PreviewRow,
    PromptReading,
    TextEncoderIo,
    TextEncoderVariant,
)
from nsedge.runtime.graph.diffusion import DiffusionGraphs, DiffusionSession, LatentForm

TEXT_FILES = ("text_encoder.onnx", "text_encoder_2.onnx")
DENOISER_FILE = "denoiser.onnx"
DECODER_FILE, ENCODER_FILE = "decoder.onnx", "encoder.onnx"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_2.json")


class DiffusionRecord(Record, frozen=True, kw_only=True):
    """The fp32 graphs. differences: of each from PyTorch, of any number as a share of the
    greatest."""

    text_ios: tuple[TextEncoderIo, ...]
    denoiser_io: DenoiserIo
    decoder_io: DecoderIo = DecoderIo()
    encoder_io: EncoderIo = EncoderIo()
    prompts: tuple[PromptReading, ...]
    latent_channels: int
    latent_factor: int
    scaling: float
    shift: float
    differences: dict[str, float]
    preview: tuple[PreviewRow, PreviewRow, PreviewRow]

    @property
    def form(self) -> LatentForm:
        """How latents lie."""
        return LatentForm(
            channels=self.latent_channels,
            factor=self.latent_factor,
            scaling=self.scaling,
            shift=self.shift,
        )


class DiffusionVariantRecord(Record, frozen=True, kw_only=True):
    """Quantised graphs: the bytes of what is not quantised, by purpose."""

    kept_fp32: dict[str, int]


class DiffusionTrial(msgspec.Struct, frozen=True, kw_only=True):
    """How near the graphs of a variant are to fp32's: their pictures, and golden samples, by the
    least cosine."""

    fidelity: ImageFidelity
    golden: float


def graphs_in(record: DiffusionRecord, *, own: str = "", shared: str = "") -> DiffusionGraphs:
    """The graphs of a stage's directory, those of texts and the denoiser below `own`, the
    autoencoder's below `shared`."""

    return DiffusionGraphs(
        text_encoders=tuple(
            TextEncoderVariant(name="", device="cpu", scheme="", graph=f"{own}{file}", io=io)
            for file, io in zip(TEXT_FILES, record.text_ios, strict=False)
        ),
        denoiser=DenoiserVariant(
            name="",
            device="cpu",
            scheme="",
            graph=f"{own}{DENOISER_FILE}",
            io=record.denoiser_io,
        ),
        decoder=DecoderVariant(
            name="", device="cpu", scheme="", graph=f"{shared}{DECODER_FILE}", io=record.decoder_io
        ),
        encoder=EncoderVariant(
            name="", device="cpu", scheme="", graph=f"{shared}{ENCODER_FILE}", io=record.encoder_io
        ),
    )


def session_of(
    folder: Path, record: DiffusionRecord, *, reference: Path | None = None, threads: int = 0
) -> DiffusionSession:
    """The graphs in a stage's directory, opened as the daemon opens them; the autoencoder's are in
    `reference`, where that is another.

    Raises:
        BundleInvalid: one does not load.
    """
    shared = "" if reference is None else f"{reference.absolute()}/"
    graphs = graphs_in(record, shared=shared)
    return DiffusionSession(folder, graphs, record.form, threads=threads)
