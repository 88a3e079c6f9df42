"""What the folder of a model says that sees pictures and writes text: its family, its decoder's
configuration, how pictures are prepared and where they stand in a prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from exporters.errors import Refused
from exporters.model.files import Json, is_count, read_object, shown
from exporters.model.pictures import read_steps, read_tiles
from exporters.model.source import Source, read_tokenizer
from exporters.model.texts import TextReader
from nsedge.bundle.pictures import PictureSteps
from nsedge.bundle.vision_lm import (
    PicturePrompt,
    Pictures,
    TiledPicture,
    TileTexts,
    WholePicture,
)

ARCHITECTURES = {
    "llava": "LlavaForConditionalGeneration",
    "idefics3": "Idefics3ForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
}
"""By model_type: those whose encoders have a form here."""
REFUSED = {
    "llava_next": "tiles of several shapes",
    "qwen2_vl": "positions of three axes",
    "qwen2_5_vl": "positions of three axes",
    "gemma3": "attention between the tokens of a picture in both directions",
    "phi4_multimodal": "adapters by what the prompt holds",
}
"""By model_type: what a known family needs that has no form here yet."""
AROUND, WHOLE = "<fake_token_around_image>", "<global-img>"
TEMPLATE_FILE = "chat_template.json"
"""Where older processors keep their template."""
TOWERS = ("clip_vision_model", "siglip_vision_model")
TILED = ("idefics3", "smolvlm")
"""Those that take pictures in tiles."""
TEXTS = TileTexts(
    alone=f"{AROUND}{WHOLE}{{rows}}{AROUND}",
    tile=f"{AROUND}<row_{{row}}_col_{{column}}>{{rows}}",
    row_end="\n",
    whole=f"\n{AROUND}{WHOLE}{{rows}}{AROUND}",
)
"""What Idefics3Processor and SmolVLMProcessor write."""


@dataclass(frozen=True, kw_only=True)
class VisionSource(Source):
    """The folder of such a model. `config` is its decoder's, and above it the whole model's."""

    @cached_property
    def whole(self) -> Json:
        """config.json."""
        return read_object(self.folder / "config.json")

    @cached_property
    def config(self) -> Json:
        """What the decoder's configuration says, and what the whole model's does."""
        return self.part("text_config") | self.whole

    def part(self, name: str) -> Json:
        """The configuration of a part.

        Raises:
            Refused: it is no object.
        """
        stated = self.whole.get(name) or {}
        if not isinstance(stated, dict):
            raise Refused(f"{self.folder / 'config.json'}: {name} is no object: {shown(stated)}")
        return stated

    def check_architecture(self) -> None:
        """Refuse what has no form here.

        Raises:
            Refused: with the reason.
        """
        kind = str(self.whole.get("model_type"))
        if kind in REFUSED:
            raise Refused(f"{self.architecture()} needs {REFUSED[kind]}, which has no form here")
        if ARCHITECTURES.get(kind) != self.architecture():
            known = ", ".join(ARCHITECTURES.values())
            raise Refused(f"{self.architecture()} has no form here; known are {known}")

    def chat_template(self) -> str | None:
        """The processor's, or the tokenizer's."""
        path = self.folder / TEMPLATE_FILE
        if not path.is_file() or (self.folder / "chat_template.jinja").is_file():
            return super().chat_template()
        template = read_object(path).get("chat_template")
        if not isinstance(template, str):
            raise Refused(f"{path}: chat_template is no text")
        return template

    def text_reader(self) -> TextReader:
        """The tokenizer with what goes around a text; raises what `Source.text_reader` does."""
        return replace(super().text_reader(), sees=True)

    def prompt(self) -> PicturePrompt:
        """How a picture stands in a prompt.

        Raises:
            Refused: no token stands for a picture, or the tokenizer does not know it.
        """
        path = self.folder / "config.json"
        number = self.whole.get("image_token_id", self.whole.get("image_token_index"))
        if not is_count(number):
            raise Refused(f"{path}: no image_token_id says which token stands for a picture")
        token = read_tokenizer(self.tokenizer_file).id_to_token(number)
        if token is None:
            raise Refused(f"{path}: the tokenizer has no token {number}, a picture's")
        return PicturePrompt(marker=token, token=token, token_id=number)

    @property
    def is_tiled(self) -> bool:
        """Whether it takes pictures in tiles."""
        return str(self.whole.get("model_type")) in TILED

    def pictures(self, rows: int) -> Pictures:
        """How pictures are given to the encoder, which makes so many rows of one, or of a tile.

        Raises:
            Refused: what has no form here.
        """
        if not self.is_tiled:
            return WholePicture(steps=self.steps(), rows=rows)
        tiles = read_tiles(self.folder)
        return TiledPicture(
            steps=tiles.steps,
            rows=rows,
            longest_edge=tiles.longest_edge,
            splits=tiles.splits,
            texts=TEXTS,
        )

    def steps(self) -> PictureSteps:
        """How pictures are prepared, which must be as large as the encoder takes them.

        Raises:
            Refused: they are not, or there are no such steps.
        """
        if self.is_tiled:
            return read_tiles(self.folder).steps
        image = self.part("vision_config")
        if (kind := image.get("model_type")) not in TOWERS:
            raise Refused(f"an encoder of pictures {shown(kind)} has no form here")
        steps, side = read_steps(self.folder), image.get("image_size", 224)
        if steps.size != (side, side):
            height, width = steps.size
            raise Refused(
                f"{self.folder}: pictures are prepared as {height} x {width}, and the encoder takes"
                f" {side} x {side}"
            )
        return steps


def is_vision_lm(source: Source) -> bool:
    """Whether the folder is of a model that sees pictures and writes text, of a family that is
    known by name."""
    kind = str(source.config.get("model_type"))
    return kind in ARCHITECTURES or kind in REFUSED


def vision_source(source: Source) -> VisionSource:
    """The same folder, read as such a model's."""
    return VisionSource(
        folder=source.folder,
        origin=source.origin,
        revision=source.revision,
        tokenizer=source.tokenizer,
        surplus=source.surplus,
    )
