"""Mixtures of experts as transformers 5 has them, in operators that a graph can have.

There, a layer's experts are one module with their weights in one tensor, and it says of itself how
they lie. Its own ways of computing either look at the chosen experts in Python or use a grouped
product that ONNX lacks. Here every expert is a product of its own, over the tokens sent to it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

MARK = "is_concatenated"
"""What transformers 5 says of each module of experts, and of no other."""


def has_experts(module: Any) -> bool:
    """Whether `module` is a layer's experts."""
    return hasattr(module, MARK)


def traceable_forward(module: Any) -> Callable[..., torch.Tensor]:
    """What stands in for the forward of the experts `module`."""
    return partial(_forward, module)


def _forward(
    module: Any, hidden: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The weighted sum [T, H] of what the experts `chosen` [T, K] make of `hidden` [T, H]."""
    total = torch.zeros_like(hidden)
    first = "gate_up_proj" if module.has_gate else "up_proj"
    for expert in range(module.num_experts):
        tokens, places = torch.where(chosen == expert)
        inner = _product(module, first, expert, hidden[tokens])
        inner = module._apply_gate(inner) if module.has_gate else module.act_fn(inner)
        outer = _product(module, "down_proj", expert, inner)
        if module.has_post_expert_norm:
            outer = module.post_expert_norm(outer)
        total = total.index_add(0, tokens, outer * weights[tokens, places, None])
    return total


def _product(module: Any, name: str, expert: int, x: torch.Tensor) -> torch.Tensor:
    weight = getattr(module, name)[expert]
    product = x @ (weight if module.is_transposed else weight.T)
    return product + getattr(module, f"{name}_bias")[expert] if module.has_bias else product
