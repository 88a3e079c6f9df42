"""Rotary embeddings by positions on several axes, as Qwen2-VL's decoders have them: sections tell
which axis turns a pair of features. The tables of a run's tokens are made once in the graph, and
each layer's queries and keys are rotated before its attention."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol
from unittest.mock import patch

import torch

from exporters.errors import Refused

Tables = tuple[torch.Tensor, torch.Tensor]
APPLIED_BY = "apply_multimodal_rotary_pos_emb"


class Trace(Protocol):
    """What attention is traced into."""

    def rotate_by(self, rows: torch.Tensor) -> None:
        """Have the running pass rotate by these rows of the tables that layers are given."""

    def leave_rotation(self, q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any, *_: Any) -> Any:
        """Keep the tables for attention, and leave queries and keys alone."""


def exchange_axes(model: Any, trace: Trace, undo: ExitStack) -> None:
    """Put tables by token in the place of a model's rotary embedding, until the exit.

    Raises:
        Refused: it has no sections, or applies it in its own way.
    """
    text = model.config.get_text_config()
    stated = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    sections = stated.get("mrope_section")
    if not sections:
        raise Refused(f"{type(model).__name__} has no mrope_section")
    sources = [m for m in model.modules() if type(m).__name__.endswith("RotaryEmbedding")]
    for source in sources:
        if len(source.inv_freq) != sum(sections):
            raise Refused(f"mrope_section {sections} are not {len(source.inv_freq)} pairs")
        undo.enter_context(patch.object(source, "forward", _tables(source, sections, trace)))
    for home in {sys.modules[type(source).__module__] for source in sources}:
        if not hasattr(home, APPLIED_BY):
            raise Refused(f"{home.__name__} applies its rotary embedding in its own way")
        undo.enter_context(patch.object(home, APPLIED_BY, trace.leave_rotation))


def _tables(source: Any, sections: list[int], trace: Trace) -> Callable[..., Tables]:
    """Stands in for a rotary module's forward: gives a row of cosines and sines [B * S, R] for each
    token by positions [axes, B, S]."""
    axis = torch.tensor([axis for axis, pairs in enumerate(sections) for _ in range(pairs)])
    scaling = float(source.attention_scaling)

    def forward(x: torch.Tensor, position_ids: torch.Tensor) -> Tables:
        own = position_ids.permute(1, 2, 0).index_select(2, axis)
        angles = (own.float() * source.inv_freq).flatten(0, 1)
        rows = torch.arange(position_ids.shape[1] * position_ids.shape[2])
        trace.rotate_by(rows.view(position_ids.shape[1], position_ids.shape[2]))
        cos, sin = angles.cos(), angles.sin()
        return (cos, sin) if scaling == 1 else (cos * scaling, sin * scaling)

    return forward
