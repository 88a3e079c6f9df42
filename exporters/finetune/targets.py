"""Which layers of a model an adapter goes to, and which modules are learnt whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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

PROJECTORS = {
    "llava": "multi_modal_projector",
    "idefics3": "connector",
    "smolvlm": "connector",
}
"""By model_type of a model that sees: what brings the rows of its encoder to its decoder."""


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What of a model is learnt.

    - targets: the last parts of the names of layers that get an adapter, sorted.
    - whole: the last parts of the names of modules that are learnt whole, sorted.
    - left_out: a pattern of layers that get none, whatever their names; None where there are none.
    - input_first: whether the layers' weights are [in, out].
    """

    targets: tuple[str, ...]
    whole: tuple[str, ...]
    left_out: str | None
    input_first: bool


def learnt_of(model: Any, targets: Sequence[str] | None, whole: Sequence[str] | None) -> Learnt:
    """What is learnt of a model where these are wished for; None: what suits it. Of a model that
    sees, adapters go to its decoder alone.

    Raises:
        ExportError: a wished name is none of its layers or modules, both are to change the same,
            or nothing is to be learnt.
    """
    kind = model.config.model_type
    if whole is None:
        whole = (PROJECTORS[kind],) if kind in PROJECTORS else ()
    decoder, others = _parts(model)
    names = () if targets is not None and not targets else targets_of(decoder, targets)
    if not names and not whole:
        raise ExportError("nothing is to be learnt: --targets none, and --whole names no module")
    _check_whole(model, decoder, names, whole)
    return Learnt(
        targets=names,
        whole=tuple(sorted(set(whole))),
        left_out=rf"model\.({'|'.join(others)})\..*" if others else None,
        input_first=keeps_input_first(decoder, names),
    )


def _parts(model: Any) -> tuple[Any, list[str]]:
    """The decoder, and the names of the parts beside it; of a text model itself, and none."""
    if model.config.model_type not in PROJECTORS:
        return model, []
    inner = model.model
    decoder = inner.language_model if hasattr(inner, "language_model") else inner.text_model
    return decoder, [name for name, part in inner.named_children() if part is not decoder]


def _check_whole(model: Any, decoder: Any, targets: Sequence[str], whole: Sequence[str]) -> None:
    adapted = {
        id(module)
        for name, module in decoder.named_modules()
        if name.rpartition(".")[2] in targets and _is_linear(module)
    }
    is_tied = bool(model.config.get_text_config().tie_word_embeddings)
    ends = [id(model.get_input_embeddings()), id(model.get_output_embeddings())]
    for wished in whole:
        found = [m for n, m in model.named_modules() if n.rpartition(".")[2] == wished]
        if not found:
            raise ExportError(f"--whole: no module is called {wished}")
        within = {id(each) for module in found for each in module.modules()}
        if not within.isdisjoint(adapted):
            raise ExportError(f"--whole {wished} holds layers that get an adapter; see --targets")
        if is_tied and not within.isdisjoint(ends):
            raise ExportError(f"--whole {wished} holds a weight that head and embedding share")


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
