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
    """

    pixel_values: Line = "pixel_values"
    embeds: Line = "embeds"
    patches: PatchIo | None = None


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


Pictures = WholePicture | TiledPicture | AnyresPicture | PatchedPicture
"""How pictures are given to an encoder."""


class PicturePrompt(Strict, frozen=True, kw_only=True):
    """How a picture stands in a prompt.

    - marker: what the chat template writes where a picture stands, and clients may write.
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
    """A model that writes text and sees pictures. hidden_size: numbers of a row."""

    components: VisionComponents
    processors: VisionProcessors
    hidden_size: Positive

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(variant.io.media is None for variant in self.variants):
            raise ValueError("a decoder has no inputs for pictures")
        folders = [_folder(variant) for variant in self.components.image.variants]
        for variant in self.variants:
            if folders.count(_folder(variant)) != 1:
                raise ValueError(f"{variant.graph} has no encoder of pictures of its own beside it")

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
    ) -> VisionLm:
        """What `text` says, and how the model sees. golden: the file of golden pictures."""
        fields = {name: getattr(text, name) for name in text.__struct_fields__}
        reads = msgspec.structs.asdict(text.processors)
        return cls(
            **fields
            | {
                "components": VisionComponents(
                    decoder=text.components.decoder, image=Variants(variants=image)
                ),
                "processors": VisionProcessors(**reads, pictures=pictures, prompt=prompt),
                "golden": {**text.golden, GOLDEN_PICTURES: golden},
            },
            hidden_size=hidden_size,
        )

    @property
    def media_kinds(self) -> tuple[str, ...]:
        """Pictures, and films as frames of them."""
        return ("image", "video")

    def image_encoder(self, variant: Variant) -> ImageEncoder:
        """The encoder beside a decoder."""
        wanted = _folder(variant)
        return next(one for one in self.components.image.variants if _folder(one) == wanted)

    def named_files(self) -> list[str]:
        """The files that have a use, the encoders' graphs among them."""
        return [*super().named_files(), *(one.graph for one in self.components.image.variants)]


class GoldenPicture(Strict, frozen=True, kw_only=True):
    """What the fp32 encoder made of the pattern of that number (nsedge.runtime.vision.levels), in
    the size that the graph takes: the mean of its rows, float32 [hidden_size]."""

    pattern: Count
    vector: tuple[float, ...]


def _folder(variant: AnyVariant) -> PurePosixPath:
    return PurePosixPath(variant.graph).parent
