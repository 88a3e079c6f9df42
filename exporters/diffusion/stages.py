"""The stages between a diffusers folder and its graphs, each kept and not made twice."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from exporters.bundle.orders import VariantOrder
from exporters.cache import Cache, Inputs, folder_digest
from exporters.code import code_digest
from exporters.diffusion.records import DiffusionRecord, DiffusionTrial
from exporters.diffusion.trial import (
    MOST_SIDES,
    read_golden,
    read_trial,
    write_golden,
    write_trial,
)
from exporters.errors import ExportError
from exporters.model.diffusion import DiffusionShape
from exporters.model.route import library_versions
from exporters.model.source import Source
from nsedge.bundle.diffusion import GoldenImage

LIBRARIES = ("torch", "transformers", "diffusers", "onnx", "onnxruntime-gpu", "tokenizers")
REFERENCE_MODULE = "exporters.diffusion.reference"
VARIANT_MODULE = "exporters.diffusion.variant"
TRIAL_MODULE = "exporters.diffusion.trial"
"""The modules that do the work of the stages."""


class DiffusionStages:
    """The fp32 graphs of a folder, what they make of golden samples, and graphs by scheme."""

    def __init__(self, source: Source, cache: Cache, shape: DiffusionShape) -> None:
        self.source = source
        self.cache = cache
        self._shape = shape
        self._inputs: Inputs = {
            "folder": folder_digest(source.folder),
            "code": code_digest(REFERENCE_MODULE),
            "libraries": library_versions(LIBRARIES),
        }

    @cached_property
    def folder(self) -> Path:
        """The directory of the fp32 graphs. Raises Refused where the model cannot be exported."""

        def make(folder: Path) -> None:
            try:
                from exporters.diffusion.reference import make_reference  # torch: only where made
            except ModuleNotFoundError as error:
                if error.name != "diffusers":
                    raise
                raise ExportError(
                    "models of pictures need diffusers: pip install 'nsedge[exporters]'"
                ) from error

            make_reference(self.source.folder, folder)

        title = f"Exporting {self.source.origin} to ONNX in fp32"
        return self.cache.get("reference", self._inputs, title=title, make=make)

    @property
    def record(self) -> DiffusionRecord:
        """What is known of the fp32 graphs."""
        return DiffusionRecord.read(self.folder)

    @cached_property
    def golden(self) -> tuple[GoldenImage, ...]:
        """What they make of golden samples."""
        step = self._shape.size_step // self._shape.latent_factor
        title = "Recording golden samples in fp32"
        inputs = {"of": self.cache.key(self._inputs), "code": code_digest(TRIAL_MODULE)}
        return read_golden(
            self.cache.get(
                "golden",
                inputs,
                title=title,
                make=lambda folder: write_golden(self.folder, step, folder),
            )
        )

    def variant(self, order: VariantOrder) -> Path:
        """The directory of text encoders and denoiser in the form that `order` wants.

        Raises:
            Refused: the scheme does not fit the model.
        """
        if order.is_reference:
            return self.folder

        def make(folder: Path) -> None:
            from exporters.diffusion.variant import write_variant  # onnx: only where made

            write_variant(self.folder, folder, scheme=order.scheme)

        inputs = self._of_variant(order)
        return self.cache.get("variant", inputs, title=f"Making {order.name}", make=make)

    def trial(self, order: VariantOrder) -> DiffusionTrial:
        """How near the graphs of `order` are to fp32."""
        shape = self._shape
        side = min(shape.height, shape.width, MOST_SIDES * shape.size_step) // shape.latent_factor

        def make(folder: Path) -> None:
            write_trial(
                self.folder,
                self.variant(order),
                folder,
                scheduler=shape.scheduler,
                side=side,
                golden=self.golden,
            )

        of = self._inputs if order.is_reference else self._of_variant(order)
        inputs = {"of": self.cache.key(of), "code": code_digest(TRIAL_MODULE)}
        title = f"Comparing {order.name} with fp32"
        return read_trial(self.cache.get("trial", inputs, title=title, make=make))

    def _of_variant(self, order: VariantOrder) -> Inputs:
        return {
            "reference": self.cache.key(self._inputs),
            "scheme": order.scheme.name,
            "code": code_digest(VARIANT_MODULE),
        }
