"""What the studio asks of a model; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nsedge.api import Chat, Generate, ModelInfo, Sampling
from nsedge.web.adaptations import Adaptation
from nsedge.web.constraint_fields import constraint
from nsedge.web.doors.studio.bodies import GENERAL, StudioBody
from nsedge.web.request_fields import spoken
from nsedge.web.sampling_fields import sampling

MOST_CREATIVE = 10
"""The level at which the temperature is 1: the model's own distribution."""


def sampling_of(body: StudioBody, *, logprobs: int | None = None) -> Sampling:
    """The sampling a body asks for: a temperature goes before a `creativity_level`. `logprobs` as
    of `Sampling`.

    Raises:
        InvalidParameter: naming the field.
    """
    wanted, level = sampling(body, logprobs=logprobs), body.creativity_level
    if level is None or wanted.temperature is not None:
        return wanted
    return replace(wanted, temperature=level / MOST_CREATIVE)


def task_of(
    prompt: str,
    body: StudioBody,
    model: ModelInfo,
    sampled: Sampling,
    adaptations: Mapping[str, Adaptation],
) -> Generate | Chat:
    """The prompt with its wishes, as the model's adaptation has it, or else its chat template."""
    names = (model.name, *model.aliases)
    adaptation = next((adaptations[name] for name in names if name in adaptations), Adaptation())
    text = worded(prompt, body, adaptation)
    held = constraint(body)
    if adaptation.replaces_template:
        raw = f"{adaptation.prefix}{text}{adaptation.suffix}"
        return Generate(text=raw, sampling=sampled, constraint=held)
    return spoken(text, model, sampled, constraint=held)


def worded(prompt: str, body: StudioBody, adaptation: Adaptation) -> str:
    """The prompt, with the category and language that are wished for."""
    category = None if body.category in (None, "", GENERAL) else body.category
    if not category and not body.language:
        return prompt
    if adaptation.style == "structured":
        lines = [("Category", category), ("Language", body.language), ("Prompt", prompt)]
        return "\n".join(f"{name}: {value}" for name, value in lines if value)
    wishes = [f"on the subject of {category}"] if category else []
    wishes += [f"in {body.language}"] if body.language else []
    return f"{prompt}\n\nAnswer {', '.join(wishes)}."
