"""The studio's bodies."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from nsedge.web.bodies import ModelName
from nsedge.web.hints import hint
from nsedge.web.other_fields import OtherFields
from nsedge.web.sampling_fields import SamplingFields

OTHERS = OtherFields(refuse_unknown=False)
"""Clients of this door send fields of their own."""
GENERAL = "general"
Word = Annotated[str, Meta(max_length=64)]


class StudioBody(SamplingFields, kw_only=True):
    """What all routes that generate share, beside the fields of every door."""

    category: Word | None = None
    creativity_level: Annotated[int, Meta(ge=1, le=10)] | None = None
    language: Word | None = None


class IdeaBody(StudioBody, kw_only=True):
    """`POST /api/v1/generate/stream`."""

    prompt: Annotated[str, hint(minLength=1)]
    model: ModelName | None = None


class BatchBody(StudioBody, kw_only=True):
    """`POST /api/v1/generate/batch`: each prompt by each model."""

    prompts: Annotated[list[str], Meta(min_length=1)]
    models: list[ModelName] | None = None
    parallel: bool | None = None
    """True where it is absent."""


class EnsembleBody(StudioBody, kw_only=True):
    """`POST /api/v1/generate/ensemble`: one prompt by several models."""

    prompt: str
    models: Annotated[list[ModelName], Meta(min_length=1)]
    mode: Literal["all", "vote", "best"] = "all"


class PreloadBody(msgspec.Struct, kw_only=True):
    """`POST /api/v1/models/preload`."""

    model_keys: Annotated[list[ModelName], Meta(min_length=1, max_length=64)]
    priority: Literal["high", "normal", "low"] = "normal"


class RatingBody(msgspec.Struct, kw_only=True):
    """`POST /api/v1/ideas/{idea_id}/rating`."""

    rating: Annotated[int, Meta(ge=1, le=5)]
