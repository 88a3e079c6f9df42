"""llama-server's request bodies as clients write them."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from nsedge.api.sampling import MAX_CHOICES, MAX_LOGPROBS
from nsedge.api.tasks import MAX_FILES
from nsedge.web.bodies import ModelName
from nsedge.web.hints import Rules, at_most_one, hint
from nsedge.web.other_fields import OtherFields
from nsedge.web.prompt_fields import PromptField
from nsedge.web.sampling_fields import SamplingFields


class WritingBody(SamplingFields, kw_only=True):
    """What the routes that write share: our sampling fields, and llama-server's names beside
    them."""

    rules: ClassVar[Rules] = (
        at_most_one("n_predict", "max_tokens"),
        at_most_one("n_cmpl", "n"),
    )
    model: ModelName | None = None
    n_predict: Annotated[int, Meta(ge=-1, le=2**31 - 1), hint(**{"not": {"const": 0}})] | None = (
        None
    )
    """-1 is as many as the context holds."""
    n_probs: Annotated[int, Meta(ge=0), hint(maximum=MAX_LOGPROBS)] | None = None
    """Tell the log-probabilities of so many tokens in the place of each that is written."""
    n_cmpl: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    """How many answers are given to each prompt."""
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    """The same."""
    return_tokens: bool | None = None
    """Tell the ids of tokens in an answer in one piece; a stream always does."""
    response_fields: list[str] | None = None
    """Of the answer these alone, as paths; the last name of each is what it has there."""
    stream: bool | None = None


class CompletionBody(WritingBody, kw_only=True):
    """`POST /completion` and `/completions`."""

    prompt: PromptField


class ExtraBody(msgspec.Struct, kw_only=True):
    """One of `input_extra`: what else the writer has open."""

    text: str
    filename: str = "tmp"


class InfillBody(WritingBody, kw_only=True):
    """`POST /infill`: `prompt` is what was typed in the gap already."""

    input_prefix: str
    input_suffix: str
    input_extra: Annotated[list[ExtraBody], hint(maxItems=MAX_FILES)] | None = None
    prompt: str | None = None


OTHERS = OtherFields(harmless=frozenset({"stream_options"}))
