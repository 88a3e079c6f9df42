"""Which of transformers' classes builds a base."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from exporters.model.source import Source
from exporters.model.vision_lm import VisionSource


def model_class(source: Source) -> Any:
    """The class for a text model, or for one that sees."""
    return AutoModelForImageTextToText if sees(source) else AutoModelForCausalLM


def sees(source: Source) -> bool:
    """Whether the base sees pictures."""
    return isinstance(source, VisionSource)
