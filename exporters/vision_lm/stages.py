"""The stages between the folder of a model that sees and its encoders' graphs, each kept and not
made twice."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

from exporters.bundle.orders import VariantOrder
from exporters.bundle.reference_stages import AnyReferenceStages
from exporters.cache import Cache, Inputs
from exporters.code import code_digest
from exporters.encoder.stages import LIBRARIES
from exporters.graph.records import DATA_SUFFIX
from exporters.measure.runner import Runner
from exporters.model.route import Route
from exporters.model.source import Source
from exporters.model.texts import FIDELITY_FILE, fidelity_passages, fidelity_text_sha256
from exporters.model.vision_lm import VisionSource
from exporters.trace.route import TRACED
from exporters.vision_lm.records import (
    IMAGE_FILE,
    SOUND_FILE,
    Golden,
    ImageRecord,
    ImageTrial,
    SoundRecord,
    session_of,
    sound_session,
)
from exporters.vision_lm.trial import (
    Grid,
    OfPictures,
    Patterned,
    fidelity_seen,
    grid_of_patterns,
    read_golden,
    read_trial,
    write_golden,
    write_trial,
)
from nsedge.bundle.causal_lm import Fidelity

REFERENCE_MODULE = "exporters.vision_lm.reference"
VARIANT_MODULE = "exporters.vision_lm.variant"
TRIAL_MODULE = "exporters.vision_lm.trial"
"""The modules that do the work of the stages."""


def _decode(source: Source, folder: Path, max_context: int) -> None:
    from exporters.vision_lm.reference import make_decoder  # torch: only when there is work

    make_decoder(source, folder, max_context)


DECODER = Route(make=_decode, module=REFERENCE_MODULE, libraries=TRACED.libraries)
"""The way to the decoder's fp32 graph."""


class EncoderStages(AnyReferenceStages):
    """The fp32 graph of an encoder, what it makes of golden patterns, and graphs by scheme."""

    golden_texts = FIDELITY_FILE
    trial_module = TRIAL_MODULE
    part: str
    """What tells it from other encoders of the folder."""
    does: str
    organ: str
    """What the model does with it, and what it is, in words."""
    file: str

    def __init__(self, source: VisionSource, cache: Cache, *, token_id: int) -> None:
        """`token_id`: what stands in a prompt for a row."""
        super().__init__(
            source, cache, max_context=None, module=REFERENCE_MODULE, libraries=LIBRARIES
        )
        self.inputs = {**self.inputs, "part": self.part}
        self._token_id = token_id

    def make_golden(self, folder: Path) -> None:
        """Write what the fp32 graph makes of the golden patterns."""
        write_golden(self.session(self.folder), folder)

    @property
    def grid(self) -> Grid | None:
        """The rows and columns that come of a pattern, where that tells positions."""
        return None

    @abstractmethod
    def session(self, folder: Path) -> Patterned:
        """The graph in a directory of one of these stages."""

    def golden(self) -> Golden:
        """What it makes of the golden patterns."""
        return read_golden(self.golden_folder())

    def files(self, order: VariantOrder) -> dict[str, Path]:
        """The files of the graph in the form that `order` wants, by their names."""
        folder = self.variant(order)
        return {name: folder / name for name in (self.file, f"{self.file}{DATA_SUFFIX}")}

    def variant(self, order: VariantOrder) -> Path:
        """The directory of the graph in the form that `order` wants.

        Raises:
            Refused: the scheme does not fit the model.
        """
        if order.is_reference:
            return self.folder

        def make(folder: Path) -> None:
            from exporters.vision_lm.variant import write_variant  # onnx: only where made

            write_variant(self.folder, folder, scheme=order.scheme, file=self.file)

        inputs, title = self._of_variant(order), f"Making {order.name}, its {self.organ}"
        return self.cache.get("variant", inputs, title=title, make=make)

    def trial(
        self,
        order: VariantOrder,
        *,
        exact: Callable[[], Runner],
        decoders: Callable[[], dict[str, Runner]],
        of: Inputs,
    ) -> ImageTrial:
        """How near the encoder of `order` is to fp32, and by decoder, which `of` decides, how near
        both are together; `exact` opens the fp32 decoder."""

        def make(folder: Path) -> None:
            opened = decoders()
            told = {name: self._seen(order, exact(), runner) for name, runner in opened.items()}
            write_trial(
                self.session(self.variant(order)),
                folder,
                exact=self.session(self.folder),
                golden=self.golden(),
                told=told,
            )

        both = {**self._of_variant(order), "decoder": self.cache.key(of)}
        inputs = self.measured(both, FIDELITY_FILE)
        title = f"Comparing what {order.name} {self.does} with fp32"
        return read_trial(self.cache.get("trial", inputs, title=title, make=make))

    def _seen(self, order: VariantOrder, exact: Runner, runner: Runner) -> Fidelity:
        return fidelity_seen(
            (exact, self.session(self.folder)),
            (runner, self.session(self.variant(order))),
            fidelity_passages(self.source.text_reader()),
            token_id=self._token_id,
            grid=self.grid,
            text_sha256=fidelity_text_sha256(),
        )

    def _of_variant(self, order: VariantOrder) -> Inputs:
        return {
            "reference": self.cache.key(self.inputs),
            "scheme": order.scheme.name,
            "code": code_digest(VARIANT_MODULE),
        }


class ImageStages(EncoderStages):
    """Those of the encoder of pictures."""

    golden_title = "Recording golden pictures in fp32"
    part = "image"
    does, organ = "sees", "eyes"
    file = IMAGE_FILE

    def make(self, folder: Path) -> None:
        """Write the fp32 graph. Raises Refused where the model cannot be exported."""
        from exporters.vision_lm.reference import make_encoder  # torch: only where made

        make_encoder(self.source, folder)

    @property
    def record(self) -> ImageRecord:
        """What is known of the fp32 graph."""
        return ImageRecord.read(self.folder)

    def session(self, folder: Path) -> Patterned:
        """The graph in a directory of one of these stages."""
        return OfPictures(session_of(folder, self.record))

    @property
    def grid(self) -> Grid | None:
        """The rows and columns that come of a pattern, where that tells positions."""
        return grid_of_patterns(self.record.pictures)


class SoundStages(EncoderStages):
    """Those of the encoder of sound."""

    golden_title = "Recording golden sounds in fp32"
    part = "sound"
    does, organ = "hears", "ears"
    file = SOUND_FILE

    def make(self, folder: Path) -> None:
        """Write the fp32 graph. Raises Refused where the model cannot be exported."""
        from exporters.vision_lm.reference import make_ears  # torch: only where made

        make_ears(self.source, folder)

    @property
    def record(self) -> SoundRecord:
        """What is known of the fp32 graph."""
        return SoundRecord.read(self.folder)

    def session(self, folder: Path) -> Patterned:
        """The graph in a directory of one of these stages."""
        return sound_session(folder, self.record)
