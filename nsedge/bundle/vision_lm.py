"""The manifest of a model that writes text and sees pictures itself: a decoder whose prompts have
rows of an encoder's output in the place of tokens."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

import msgspec
from msgspec import Meta

from nsedge.bundle.anyres import AnyresPicture
from nsedge.bundle.causal_lm import (
    CausalLm,
    DecoderComponents,
    Fidelity,
    TextProcessors,
    Variant,
)
from nsedge.bundle.encoder import VectorVariant
from nsedge.bundle.fields import AnyVariant, Count, Line, Name, Positive, Strict, Variants
from nsedge.bundle.hearing import GOLDEN_SOUNDS, Hearing, SoundEncoder
from nsedge.bundle.mode_adapters import ModeAdapters
from nsedge.bundle.patched import PatchedPicture
from nsedge.bundle.pictures import PictureSteps

GOLDEN_PICTURES = "see"
"""The golden samples that are pictures; those of `generate` are texts."""


class WindowIo(Strict, frozen=True, kw_only=True):
    """Names of the inputs that tell of the windows which layers attend within.

    - slots: int64 [windows, places], the patch in each place. filled: int32 of the same shape, 0
      where there is none. back: int64 [N], the place of each patch among all of them.
    """

    slots: Line = "window_slots"
    filled: Line = "window_filled"
    back: Line = "window_back"


class PatchIo(Strict, frozen=True, kw_only=True):
    """Names of the further inputs of a graph that takes one picture in patches.

    - places: int64 [N, 2], the row and column of each patch. windows: where layers have some.
    """

    places: Line = "patch_places"
    windows: WindowIo | None = None


class ImageEncoderIo(Strict, frozen=True, kw_only=True):
    """Names of the graph's input and output.

    - pixel_values: float32 [B, 3, H, W]; with `patches`, those of one picture [N, numbers].
    - embeds: float32 [B, rows, hidden], as wide as the decoder's embeddings; with `patches` [rows,
      hidden].
    - bias, places: where patches may be none of the picture's: float32 [B, patches], what is added
      to the scores of each, 0 or its least number; int64 [B, patches], their rows in the table of
      positions.
    """

    pixel_values: Line = "pixel_values"
    embeds: Line = "embeds"
    patches: PatchIo | None = None
    bias: Line | None = None
    places: Line | None = None


class ImageEncoder(VectorVariant, frozen=True, kw_only=True):
    """A graph that makes rows of pictures, for one device and precision, in the directory of the
    decoder that it belongs to.

    - fidelity: how near its rows are to fp32's.
    - seen: by the name of each decoder beside it, how near both together are to fp32, over what
      follows pictures.
    """

    io: ImageEncoderIo
    seen: dict[Name, Fidelity] = msgspec.field(default_factory=dict)


class WholePicture(Strict, frozen=True, kw_only=True, tag_field="layout", tag="whole"):
    """A picture that the encoder takes at once.

    - steps: from the picture to what the graph takes. rows: what the graph makes of it.
    """

    steps: PictureSteps
    rows: Positive


class TileTexts(Strict, frozen=True, kw_only=True):
    """What stands in a prompt around the rows, `{rows}`, of tiles.

    - alone: of a picture that is one tile.
    - tile: of each tile of one that is cut, `{row}` and `{column}` from 1 on; row_end: behind each
      row of them; whole: of the picture itself, behind them all.
    """

    alone: str
    tile: str
    row_end: str
    whole: str

    def __post_init__(self) -> None:
        if not all(text.count("{rows}") == 1 for text in (self.alone, self.tile, self.whole)):
            raise ValueError("alone, tile and whole have {rows} in them once")


class TiledPicture(Strict, frozen=True, kw_only=True, tag_field="layout", tag="tiled"):
    """A picture that the encoder takes in tiles, and as a whole behind them, as Idefics3 does.

    - steps: from a tile to what the graph takes; rows: what the graph makes of one.
    - longest_edge: to which the longer side is brought first. splits: whether it is cut then.
    """

    steps: PictureSteps
    rows: Positive
    longest_edge: Positive
    splits: bool
    texts: TileTexts

    def __post_init__(self) -> None:
        if self.steps.crop is not None or self.steps.size[0] != self.steps.size[1]:
            raise ValueError("tiles are resized to a square")

    @property
    def tile(self) -> int:
        """The side of a tile."""
        return self.steps.size[0]


class CroppedPicture(Strict, frozen=True, kw_only=True, tag_field="layout", tag="crops"):
    """A picture that the encoder takes in square crops of a larger one, which is filled up with
    white at the right or below, and as a whole before them, as Phi-4-multimodal does.

    - steps: the levels of a crop, and its size. most: crops of a picture, without the whole.
    - patch: the side of a patch. Four of them make a row.
    - rows: what the graph makes of a crop: (side / 2 patch)^2, then the end of a line of them, and
      what stands between the crops and the whole.
    """

    steps: PictureSteps
    rows: Positive
    patch: Positive
    most: Positive

    def __post_init__(self) -> None:
        side = self.steps.size[0]
        if self.steps.size != (side, side) or side % (2 * self.patch):
            raise ValueError("crops are squares of whole pairs of patches")
        if self.rows != (side // (2 * self.patch)) ** 2 + 2:
            raise ValueError("a crop has a row for each four patches, and two more")


Pictures = WholePicture | TiledPicture | AnyresPicture | PatchedPicture | CroppedPicture
"""How pictures are given to an encoder."""


class PicturePrompt(Strict, frozen=True, kw_only=True):
    """How a picture stands in a prompt.

    - marker: what the chat template writes where a picture stands, and clients may write; with
      `{n}` in it the number of the picture, from 1 on.
    - token, token_id: what stands there for each row that an encoder gives.
    - before, after: what stands around these tokens in the marker's place.
    """

    marker: Line
    token: Line
    token_id: Count
    before: str = ""
    after: str = ""


class FilmPrompt(Strict, frozen=True, kw_only=True):
    """How a film stands in a prompt: as frames of it, each a picture that is not cut.

    - fps: frames a second that are looked at where a request says nothing. frames: at most so many
      then; none is as many as take half of the context.
    - before, after: around all of them; `{frames}` is how many they are, `{length}` how long the
      film is, as H:MM:SS.
    - frame: of each; `{time}` is when it is shown, as M:SS, `{frame}` the picture.
    """

    fps: Annotated[float, Meta(gt=0)] = 1.0
    frames: Positive | None = None
    before: str = ""
    frame: str = "Frame at {time}: {frame}\n"
    after: str = ""

    def __post_init__(self) -> None:
        if self.frame.count("{frame}") != 1:
            raise ValueError("frame has {frame} in it once")


class VisionProcessors(TextProcessors, frozen=True, kw_only=True):
    """What reads prompts, and what prepares pictures."""

    pictures: Pictures
    prompt: PicturePrompt
    film: FilmPrompt = FilmPrompt()


class VisionComponents(DecoderComponents, frozen=True, kw_only=True):
    """The decoder, and the encoder with the projector behind it."""

    image: Variants[ImageEncoder]


class VisionLm(CausalLm, frozen=True, kw_only=True, tag="vision-lm"):
    """A model that writes text and sees pictures.

    - hidden_size: numbers of a row.
    - hearing: where it hears sound, too. adapters: where it goes through adapters of its own by
      what a prompt holds.
    """

    components: VisionComponents
    processors: VisionProcessors
    hidden_size: Positive
    hearing: Hearing | None = None
    adapters: ModeAdapters | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(variant.io.media is None for variant in self.variants):
            raise ValueError("a decoder has no inputs for pictures")
        beside = {"pictures": [_folder(one) for one in self.components.image.variants]}
        if self.hearing is not None:
            beside["sound"] = [_folder(one) for one in self.hearing.encoder.variants]
        for variant in self.variants:
            for what, folders in beside.items():
                if folders.count(_folder(variant)) != 1:
                    raise ValueError(
                        f"{variant.graph} has no encoder of {what} of its own beside it"
                    )
            if self.adapters is not None and variant.name not in self.adapters.graphs:
                raise ValueError(f"{variant.graph} has no form that takes adapters")

    @classmethod
    def of(
        cls,
        text: CausalLm,
        *,
        image: tuple[ImageEncoder, ...],
        pictures: Pictures,
        prompt: PicturePrompt,
        golden: str,
        hidden_size: int,
        hearing: Hearing | None = None,
        golden_sounds: str | None = None,
        adapters: ModeAdapters | None = None,
    ) -> VisionLm:
        """What `text` says, and how the model sees and hears. golden, golden_sounds: the files of
        golden pictures, and of sounds where it hears."""
        sounds = {} if golden_sounds is None else {GOLDEN_SOUNDS: golden_sounds}
        fields = {name: getattr(text, name) for name in text.__struct_fields__}
        reads = msgspec.structs.asdict(text.processors)
        return cls(
            **fields
            | {
                "components": VisionComponents(
                    decoder=text.components.decoder, image=Variants(variants=image)
                ),
                "processors": VisionProcessors(**reads, pictures=pictures, prompt=prompt),
                "golden": {**text.golden, GOLDEN_PICTURES: golden, **sounds},
            },
            hidden_size=hidden_size,
            hearing=hearing,
            adapters=adapters,
        )

    @property
    def media_kinds(self) -> tuple[str, ...]:
        """Pictures, films as frames of them, and sound where it hears."""
        return ("image", "video") if self.hearing is None else ("image", "video", "audio")

    def image_encoder(self, variant: Variant) -> ImageEncoder:
        """The encoder beside a decoder."""
        wanted = _folder(variant)
        return next(one for one in self.components.image.variants if _folder(one) == wanted)

    def sound_encoder(self, variant: Variant) -> SoundEncoder | None:
        """The encoder of sound beside a decoder; None where the model does not hear."""
        if self.hearing is None:
            return None
        wanted = _folder(variant)
        return next(one for one in self.hearing.encoder.variants if _folder(one) == wanted)

    def named_files(self) -> list[str]:
        """The files that have a use, the encoders' graphs among them."""
        named = [*super().named_files(), *(one.graph for one in self.components.image.variants)]
        if self.hearing is not None:
            named += [one.graph for one in self.hearing.encoder.variants]
            named.append(self.hearing.features.filters)
        return named if self.adapters is None else [*named, *self.adapters.named_files()]


class GoldenPicture(Strict, frozen=True, kw_only=True):
    """What the fp32 encoder made of the pattern of that number (nsedge.runtime.vision.levels), in
    the size that the graph takes: the mean of its rows, float32 [hidden_size]."""

    pattern: Count
    vector: tuple[float, ...]


def _folder(variant: AnyVariant) -> PurePosixPath:
    return PurePosixPath(variant.graph).parent
