"""Which layers of a model an adapter goes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exporters.errors import ExportError

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_GATED = (*_ATTENTION, "gate_proj", "up_proj", "down_proj")
TARGETS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "olmo2", "qwen2",
            "qwen3", "smollm3",
        ),
        _GATED,
    ),
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "gpt_neox": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    "opt": ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
    "phi": ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"),
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "qwen3_moe": _ATTENTION,
    "starcoder2": (*_ATTENTION, "c_fc", "c_proj"),
}  # fmt: skip
"""By model_type: every linear layer of a block; of a mixture of experts only the attention's,
since each expert sees a few tokens only."""


def targets_of(model: Any, wished: Sequence[str] | None) -> tuple[str, ...]:
    """The last parts of the layers' names, sorted.

    An architecture outside the table gets all linear layers but the head.

    Raises:
        ExportError: a wished name is no linear layer of the model.
    """
    linear = _linear_layers(model)
    names = wished or TARGETS.get(model.config.model_type) or sorted(linear)
    unknown = sorted(set(names) - linear - _head(model))
    if unknown:
        raise ExportError(
            f"no linear layer is called {', '.join(unknown)}; there are {', '.join(sorted(linear))}"
        )
    return tuple(sorted(set(names)))


def keeps_input_first(model: Any, targets: Sequence[str]) -> bool:
    """Whether these layers' weights are [in, out], as GPT-2 keeps them.

    Raises:
        ExportError: some are and some are not, which one adapter cannot say.
    """
    kinds = {
        type(module).__name__ == "Conv1D"
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in targets and _is_linear(module)
    }
    if len(kinds) > 1:
        raise ExportError("--targets names layers of both orders, [in, out] and [out, in]")
    return kinds == {True}


def _linear_layers(model: Any) -> set[str]:
    head = model.get_output_embeddings()
    return {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if _is_linear(module) and module is not head
    }


def _head(model: Any) -> set[str]:
    head = model.get_output_embeddings()
    return {name.rpartition(".")[2] for name, module in model.named_modules() if module is head}


def _is_linear(module: Any) -> bool:
    from torch import nn  # only when there is work
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)
