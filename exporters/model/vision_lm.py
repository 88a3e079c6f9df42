"""What the folder of a model says that sees pictures and writes text: its family, its decoder's
configuration, how pictures are prepared and where they stand in a prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from exporters.errors import Refused
from exporters.model.anyres import read_anyres
from exporters.model.files import Json, is_count, read_object, shown
from exporters.model.patched import read_patched
from exporters.model.pictures import read_steps, read_tiles
from exporters.model.source import Source, read_tokenizer
from exporters.model.texts import TextReader
from nsedge.bundle.hearing import SoundPrompt
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
    "llava_next": "LlavaNextForConditionalGeneration",
    "idefics3": "Idefics3ForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
}
"""By model_type: those whose encoders have a form here."""
REFUSED = {
    "phi4mm": "code of its own (transformers' layout, Phi4MultimodalForCausalLM, does not)",
}
"""By model_type: what a known family needs that has no form here yet."""
AROUND, WHOLE = "<fake_token_around_image>", "<global-img>"
TEMPLATE_FILE = "chat_template.json"
"""Where older processors keep their template."""
TOWERS = ("clip_vision_model", "siglip_vision_model")
ANYRES = "llava_next"
WINDOWED = "qwen2_5_vl"
PATCHED = ("qwen2_vl", WINDOWED)
"""Those that take pictures in sizes of their own, one of them within windows."""
CLASSED_TOWER = "clip_vision_model"
"""The one of them that puts a row for the whole picture before those of its patches."""
DEFAULT_PATCHES = {CLASSED_TOWER: 32, "siglip_vision_model": 16}
TILED_PATCH = 32
"""Sides of patches in pixels, where a configuration says nothing of them."""
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
        if (needed := REFUSED.get(self.kind)) is not None:
            raise Refused(f"{self.architecture()} needs {needed}, which has no form here")
        if ARCHITECTURES.get(self.kind) != self.architecture():
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
        if self.kind not in PATCHED:
            return PicturePrompt(marker=token, token=token, token_id=number)
        before, after = (self._token(f"vision_{side}_token_id") for side in ("start", "end"))
        return PicturePrompt(
            marker=f"{before}{token}{after}",
            token=token,
            token_id=number,
            before=before,
            after=after,
        )

    def _token(self, key: str) -> str:
        """The token that config.json names.

        Raises:
            Refused: it names none, or the tokenizer does not know it.
        """
        number = self.whole.get(key)
        token = (
            read_tokenizer(self.tokenizer_file).id_to_token(number) if is_count(number) else None
        )
        if token is None:
            raise Refused(f"{self.folder / 'config.json'}: {key} {shown(number)} names no token")
        return token

    @property
    def together(self) -> bool:
        """Whether the tokens of a picture see each other, those behind them, too."""
        return False

    def sound_prompt(self) -> SoundPrompt | None:
        """How sound stands in a prompt; None of a model that does not hear.

        Raises:
            Refused: as `prompt`.
        """
        return None

    def adapters(self) -> dict[str, Path]:
        """The folders of adapters that are the model's own, by the kind of media in a prompt.

        Raises:
            Refused: one is missing.
        """
        return {}

    @property
    def position_axes(self) -> Literal[1, 3]:
        """Axes of a token's position."""
        return 3 if self.kind in PATCHED else 1

    @property
    def kind(self) -> str:
        """The family, by its model_type."""
        return str(self.whole.get("model_type"))

    def pictures(self, rows: int) -> Pictures:
        """How pictures are given to the encoder, which makes so many rows of one, or of a tile,
        where that does not follow from the folder.

        Raises:
            Refused: what has no form here.
        """
        if self.kind == ANYRES:
            self._check_tower()
            return read_anyres(self.folder, self.whole, self.part("vision_config"))
        if self.kind in PATCHED:
            windowed = self.kind == WINDOWED
            return read_patched(self.folder, self.part("vision_config"), windowed=windowed)
        if self.kind not in TILED:
            return WholePicture(steps=self.steps(), rows=rows)
        tiles = read_tiles(self.folder)
        return TiledPicture(
            steps=tiles.steps,
            rows=rows,
            longest_edge=tiles.longest_edge,
            splits=tiles.splits,
            texts=TEXTS,
        )

    def rows(self) -> int:
        """Tokens that a picture, or a tile of one, becomes in a prompt, in a family that has as
        many for each.

        Raises:
            Refused: the encoder, or how pictures are prepared for it, has no form here.
        """
        self.check_architecture()
        image, size = self.part("vision_config"), self.steps().size
        tower = str(image.get("model_type"))
        patch = image.get("patch_size", DEFAULT_PATCHES.get(tower, TILED_PATCH))
        patches = (size[0] // patch) * (size[1] // patch)
        if self.kind in TILED:
            return int(patches // self.whole.get("scale_factor", 2) ** 2)
        strategy = self.whole.get("vision_feature_select_strategy", "default")
        return int(patches + (tower == CLASSED_TOWER) - (strategy == "default"))

    def steps(self) -> PictureSteps:
        """How pictures are prepared, which must be as large as the encoder takes them.

        Raises:
            Refused: they are not, or there are no such steps.
        """
        if self.kind in TILED:
            return read_tiles(self.folder).steps
        if self.kind == ANYRES or self.kind in PATCHED:
            return self.pictures(0).steps
        image = self._check_tower()
        steps, side = read_steps(self.folder), image.get("image_size", 224)
        if steps.size != (side, side):
            height, width = steps.size
            raise Refused(
                f"{self.folder}: pictures are prepared as {height} x {width}, and the encoder takes"
                f" {side} x {side}"
            )
        return steps

    def _check_tower(self) -> Json:
        """The configuration of the encoder, of a family that there are several in.

        Raises:
            Refused: it is another.
        """
        image = self.part("vision_config")
        if (kind := image.get("model_type")) not in TOWERS:
            raise Refused(f"an encoder of pictures {shown(kind)} has no form here")
        return image
