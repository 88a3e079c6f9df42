"""What the folder of a Gemma 3 that sees says: pictures as a whole, whose tokens see each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporters.errors import Refused
from exporters.model.files import is_count, shown
from exporters.model.pictures import read_steps, stated_settings
from exporters.model.vision_lm import VisionSource
from nsedge.bundle.pictures import PictureSteps
from nsedge.bundle.vision_lm import PicturePrompt, Pictures, WholePicture

ARCHITECTURE = "Gemma3ForConditionalGeneration"
MODEL_TYPE = "gemma3"
AROUND = "\n\n"
"""What the processor writes before and after a picture."""


@dataclass(frozen=True, kw_only=True)
class GemmaSource(VisionSource):
    """The folder of such a model."""

    @property
    def together(self) -> Literal[True]:
        """The tokens of a picture see each other."""
        return True

    def check_architecture(self) -> None:
        """Refuse what has no form here.

        Raises:
            Refused: with the reason.
        """
        if self.architecture() != ARCHITECTURE:
            raise Refused(f"{self.architecture()} has no form here; {ARCHITECTURE} has one")
        text, path = self.part("text_config"), self.folder / "config.json"
        if text.get("use_bidirectional_attention"):
            raise Refused(f"{path}: texts that are read in both directions have no form here")
        # transformers caps the logits of a decoder by itself alone, not of one that sees.
        if (cap := text.get("final_logit_softcapping")) is not None:
            raise Refused(f"{path}: a final_logit_softcapping of {shown(cap)} has no form here")

    def prompt(self) -> PicturePrompt:
        """How a picture stands in a prompt; raises as `VisionSource.prompt`."""
        plain = super().prompt()
        begin, end = (self._token(f"{side}_token_index") for side in ("boi", "eoi"))
        return PicturePrompt(
            marker=begin,
            token=plain.token,
            token_id=plain.token_id,
            before=f"{AROUND}{begin}",
            after=f"{end}{AROUND}",
        )

    def pictures(self, rows: int) -> Pictures:
        """How pictures are given to the encoder; raises as `steps`."""
        return WholePicture(steps=self.steps(), rows=rows)

    def steps(self) -> PictureSteps:
        """How pictures are prepared.

        Raises:
            Refused: not as the encoder takes them, or in a way that has no form here.
        """
        image = self._check_tower()
        path, stated = stated_settings(self.folder)
        if stated.get("do_pan_and_scan"):
            raise Refused(f"{path}: do_pan_and_scan has no form here")
        steps, side = read_steps(self.folder), image.get("image_size", 224)
        tokens = self.whole.get("mm_tokens_per_image", 256)
        if steps.size != (side, side):
            height, width = steps.size
            raise Refused(
                f"{self.folder}: pictures are prepared as {height} x {width}, and the encoder takes"
                f" {side} x {side}"
            )
        if not is_count(tokens) or not tokens:
            raise Refused(f"{self.folder / 'config.json'}: mm_tokens_per_image is no count")
        return steps
