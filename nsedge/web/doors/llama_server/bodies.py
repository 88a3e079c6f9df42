"""llama-server's request bodies as clients write them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from nsedge.web.bodies import ModelName
from nsedge.web.other_fields import OtherFields
from nsedge.web.sampling_fields import SamplingFields


class CompletionBody(SamplingFields, kw_only=True):
    """`POST /completion` and `/completions`: our sampling fields, and llama-server's names beside
    them."""

    prompt: str | list[Any]
    model: ModelName | None = None
    n_predict: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    """-1 is as many as the context holds."""
    stream: bool | None = None


OTHERS = OtherFields(harmless=frozenset({"stream_options"}))
