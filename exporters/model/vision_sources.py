"""Folders of models that see: whether one is of such a model, and how it is read."""

from __future__ import annotations

from exporters.model.gemma3 import MODEL_TYPE as GEMMA3
from exporters.model.gemma3 import GemmaSource
from exporters.model.phi4 import MODEL_TYPE as PHI4
from exporters.model.phi4 import PhiSource
from exporters.model.source import Source
from exporters.model.vision_lm import ARCHITECTURES, REFUSED, VisionSource

KINDS: dict[str, type[VisionSource]] = {PHI4: PhiSource, GEMMA3: GemmaSource}
"""By model_type, those that are read in their own way."""


def is_vision_lm(source: Source) -> bool:
    """Whether the folder is of a model that sees pictures and writes text, of a family that is
    known by name."""
    kind = str(source.config.get("model_type"))
    return kind in ARCHITECTURES or kind in REFUSED or kind in KINDS


def vision_source(source: Source) -> VisionSource:
    """The same folder, read as such a model's."""
    kind = KINDS.get(str(source.config.get("model_type")), VisionSource)
    return kind(
        folder=source.folder,
        origin=source.origin,
        revision=source.revision,
        tokenizer=source.tokenizer,
        surplus=source.surplus,
    )
