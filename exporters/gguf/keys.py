"""Which keys of a GGUF file change the model: none of them is passed over in silence.

A key is read by the import, or known to change nothing, or refused by name. Source: what llama.cpp
reads (`llama-arch.cpp`, `llama-model.cpp`, `llama-vocab.cpp`), and the GGUF specification.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gguf.constants import MODEL_ARCH_NAMES

from exporters.errors import Refused
from exporters.gguf.file import Metadata, shown

GENERAL, TOKENIZER = "general", "tokenizer"
OTHER_LOADED = frozenset({"split", "adapter", "xielu", "clip", "imatrix", "mmproj"})
"""Namespaces that loaders read besides the general one, the tokenizer's and the architecture's."""

READ: Mapping[str, frozenset[str]] = {
    GENERAL: frozenset(
        {
            *("architecture", "alignment", "name", "license"),
            *("source.repo_url", "source.url"),
            *("sampling.temp", "sampling.top_k", "sampling.top_p", "sampling.min_p"),
            *("sampling.penalty_repeat", "sampling.penalty_last_n"),
        }
    ),
    TOKENIZER: frozenset(
        {
            *("ggml.model", "ggml.pre", "ggml.tokens", "ggml.token_type", "ggml.scores"),
            *("ggml.merges", "ggml.add_bos_token", "ggml.add_eos_token", "ggml.add_space_prefix"),
            *("ggml.bos_token_id", "ggml.eos_token_id", "ggml.eot_token_id", "ggml.eom_token_id"),
            *("ggml.unknown_token_id", "ggml.padding_token_id", "chat_template"),
            "chat_template.tool_use",
        }
    ),
}
READ_OF_MODEL = frozenset(
    {
        *("context_length", "embedding_length", "block_count", "feed_forward_length"),
        *("attention.head_count", "attention.head_count_kv", "attention.key_length"),
        *("attention.value_length", "attention.layer_norm_rms_epsilon"),
        *("attention.sliding_window", "rope.dimension_count", "rope.freq_base"),
        *("rope.scaling.type", "rope.scaling.factor", "rope.scale_linear", "expert_count"),
    }
)
"""Behind the architecture's name."""

HARMLESS: Mapping[str, frozenset[str]] = {
    GENERAL: frozenset(
        {
            *("author", "version", "organization", "finetune", "basename", "description"),
            *("quantized_by", "size_label", "license.name", "license.link", "url", "doi", "uuid"),
            *("repo_url", "tags", "languages", "datasets", "file_type"),
        }
    ),
    TOKENIZER: frozenset(
        {
            # Tokens of uses that there are none of here: filling in, classifying, pairs of texts.
            *("ggml.fim_pre_token_id", "ggml.fim_suf_token_id", "ggml.fim_mid_token_id"),
            *("ggml.fim_pad_token_id", "ggml.fim_rep_token_id", "ggml.fim_sep_token_id"),
            *("ggml.prefix_token_id", "ggml.suffix_token_id", "ggml.middle_token_id"),
            *("ggml.seperator_token_id", "ggml.cls_token_id", "ggml.mask_token_id"),
            "ggml.token_type_count",
            "huggingface.json",  # the same tokenizer once more
            "chat_templates",  # the names of those besides the default one
        }
    ),
    "split": frozenset({"tensors.count"}),
}
HARMLESS_OF_MODEL = frozenset(
    {
        "vocab_size",  # the embedding's rows say it
        "rope.scaling.original_context_length",  # read by kinds of scaling that are refused
        "rope.scaling.finetuned",  # printed alone
    }
)
DESCRIPTIVE = ("source.", "base_model.", "dataset.")
"""Beginnings of general keys that say where a model comes from."""
NAMED_TEMPLATE = "chat_template."
TOOL_TEMPLATE_KEY = f"{TOKENIZER}.{NAMED_TEMPLATE}tool_use"
"""The template for chats with tools."""
KNOWN_MAKERS = ("quantize.imatrix.",)
"""Keys of tools, which no loader reads."""

NEUTRAL: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    GENERAL: {"type": ("model",), "quantization_version": (2,)},
    TOKENIZER: {
        "ggml.add_sep_token": (False,),
        "ggml.remove_extra_whitespaces": (False,),
        "ggml.normalizer.lowercase": (False,),
        "ggml.normalizer.strip_accents": (False,),
        "ggml.suppress_tokens": ([],),
        "ggml.added_tokens": ([],),
    },
    "split": {"count": (0, 1), "no": (0,)},
}
"""Keys that change the model unless they have one of these values."""
NEUTRAL_OF_MODEL: Mapping[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "rope.scaling.attn_factor": (1.0,),
    "rope.scaling.alpha": (0.0, 1.0),
    "rope.scaling.yarn_log_multiplier": (0.0,),
    "rope.scaling.yarn_ext_factor": (0.0,),
    **dict.fromkeys(("attention.clamp_kqv", "attention.max_alibi_bias"), (0.0,)),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping"), (0.0,)),
    **dict.fromkeys(("attention.scale", "attention.shared_kv_layers"), (0.0,)),
    **dict.fromkeys(("logit_scale", "residual_scale", "embedding_scale"), (0.0, 1.0)),
    **dict.fromkeys(("expert_used_count", "expert_shared_count", "expert_group_count"), (0,)),
    **dict.fromkeys(("expert_group_used_count", "expert_feed_forward_length"), (0,)),
    **dict.fromkeys(("leading_dense_block_count", "nextn_predict_layers"), (0,)),
    "pooling_type": (0,),
    "use_parallel_residual": (False,),
    "hidden_activation": ("silu",),
    "tensor_data_layout": ("Meta AI original pth",),
}
ADVICE: Mapping[str, tuple[Any, ...]] = {
    "sampling.sequence": ("",),
    "sampling.xtc_probability": (0.0,),
    "sampling.xtc_threshold": (),
    "sampling.mirostat": (0,),
    "sampling.mirostat_tau": (),
    "sampling.mirostat_eta": (),
}
"""Advice on sampling that nobody follows here: told, unless it has one of these values."""
PARTS_OF_ADVICE = {
    "sampling.xtc_threshold": "sampling.xtc_probability",
    "sampling.mirostat_tau": "sampling.mirostat",
    "sampling.mirostat_eta": "sampling.mirostat",
}
"""Each says something only where the other is told."""


def check_keys(metadata: Metadata, architecture: str) -> None:
    """Refuse keys that change the model in a way that is not known here.

    Raises:
        Refused: naming the key.
    """
    for key in metadata:
        namespace, _, name = key.partition(".")
        if namespace == architecture:
            _check(metadata, key, name, READ_OF_MODEL | HARMLESS_OF_MODEL, NEUTRAL_OF_MODEL)
        elif namespace in (GENERAL, TOKENIZER) or namespace in OTHER_LOADED:
            known = READ.get(namespace, frozenset()) | HARMLESS.get(namespace, frozenset())
            if not _is_described(namespace, name):
                _check(metadata, key, name, known, NEUTRAL.get(namespace, {}))
        elif namespace in MODEL_ARCH_NAMES.values():
            raise Refused(
                f"{metadata.where}: {shown(key)} is of another architecture than"
                f" {architecture}, which the file says it holds"
            )


def _is_described(namespace: str, name: str) -> bool:
    if namespace == TOKENIZER:
        return name.startswith(NAMED_TEMPLATE)
    return namespace == GENERAL and (name.startswith(DESCRIPTIVE) or name in ADVICE)


def _check(
    metadata: Metadata,
    key: str,
    name: str,
    known: frozenset[str],
    neutral: Mapping[str, tuple[Any, ...]],
) -> None:
    if name in known:
        return
    if name not in neutral:
        raise Refused(
            f"{metadata.where}: what {shown(key)} does to the model is not known here; if it is"
            " nothing, gguf-new-metadata --remove-metadata, of the package gguf, takes it out"
        )
    if key == "split.count" and metadata.plain(key) not in neutral[name]:
        raise Refused(
            f"{metadata.where} is one of {shown(str(metadata.plain(key)))} files of a model;"
            " llama-gguf-split --merge joins them"
        )
    if metadata.plain(key) not in neutral[name]:
        raise Refused(
            f"{metadata.where}: {shown(key)} is {shown(str(metadata.plain(key)))}, which changes"
            " the model and is not followed here"
        )


def notes_on(metadata: Metadata) -> Iterator[str]:
    """The settings of the file that are not followed, though they change no weight and no token."""
    advice = {
        name: metadata.plain(key)
        for name, neutral in ADVICE.items()
        if (key := f"{GENERAL}.{name}") in metadata and metadata.plain(key) not in neutral
    }
    told = [
        f"{GENERAL}.{name}={shown(str(value))}"
        for name, value in advice.items()
        if PARTS_OF_ADVICE.get(name, name) in advice
    ]
    if told:
        yield f"not followed here: the makers' advice {', '.join(told)}"
    others = f"{TOKENIZER}.{NAMED_TEMPLATE}"
    named = [key for key in metadata if key.startswith(others) and key != TOOL_TEMPLATE_KEY]
    if named:
        templates = ", ".join(shown(key.split(".", 2)[2]) for key in named)
        yield f"chat templates besides the default one are left aside: {templates}"
    makers = [key for key in metadata if _is_a_makers(key)]
    if makers:
        yield f"keys that no loader of this format reads: {', '.join(map(shown, makers))}"


def _is_a_makers(key: str) -> bool:
    namespace = key.partition(".")[0]
    loaded = {GENERAL, TOKENIZER, *OTHER_LOADED, *MODEL_ARCH_NAMES.values()}
    return namespace not in loaded and not key.startswith(KNOWN_MAKERS)
