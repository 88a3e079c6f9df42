"""Tiny models with random weights, each the real architecture's code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

VOCABULARY = 320
POSITIONS = 128
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
WINDOW = 8
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAR = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 8.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}
"""Queries are scaled by how often the original context has gone by."""
TEMPLATE = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


def _sized(model: str, config: str, **changes: Any) -> Callable[[], Any]:
    def make() -> Any:
        made = getattr(transformers, config)(**{**SIZES, **changes})
        return getattr(transformers, model)(made)

    return make


MODELS: dict[str, Callable[[], Any]] = {
    "llama": _sized("LlamaForCausalLM", "LlamaConfig"),
    "llama-tied-llama3-rope": _sized(
        "LlamaForCausalLM", "LlamaConfig", tie_word_embeddings=True, rope_scaling=LLAMA3
    ),
    "llama-heads-of-8": _sized(
        "LlamaForCausalLM", "LlamaConfig", num_attention_heads=8, num_key_value_heads=4
    ),
    "qwen2": _sized("Qwen2ForCausalLM", "Qwen2Config", tie_word_embeddings=True),
    "qwen3": _sized("Qwen3ForCausalLM", "Qwen3Config", head_dim=32),
    "gemma3": _sized(
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        head_dim=32,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "phi3": _sized("Phi3ForCausalLM", "Phi3Config"),
    "phi3-half-rotary": _sized(
        "Phi3ForCausalLM", "Phi3Config", hidden_size=128, partial_rotary_factor=0.5
    ),
    "mistral-window": _sized("MistralForCausalLM", "MistralConfig", sliding_window=WINDOW),
    "gemma2": _sized(
        "Gemma2ForCausalLM",
        "Gemma2Config",
        head_dim=32,
        query_pre_attn_scalar=24,
        sliding_window=WINDOW,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=4.0,
    ),
    "granite": _sized(
        "GraniteForCausalLM",
        "GraniteConfig",
        embedding_multiplier=3.0,
        residual_multiplier=0.4,
        attention_multiplier=0.2,
        logits_scaling=2.0,
    ),
    "smollm3": _sized("SmolLM3ForCausalLM", "SmolLM3Config", no_rope_layers=[1, 0]),
    "starcoder2": _sized("Starcoder2ForCausalLM", "Starcoder2Config", sliding_window=WINDOW),
    "qwen3_moe": _sized(
        "Qwen3MoeForCausalLM",
        "Qwen3MoeConfig",
        head_dim=32,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        norm_topk_prob=True,
    ),
    "gpt_neox": _sized(
        "GPTNeoXForCausalLM", "GPTNeoXConfig", num_key_value_heads=None, rotary_pct=0.25
    ),
    "gpt2": _sized("GPT2LMHeadModel", "GPT2Config", num_key_value_heads=None, n_inner=96),
    "opt": _sized(
        "OPTForCausalLM",
        "OPTConfig",
        num_key_value_heads=None,
        ffn_dim=96,
        word_embed_proj_dim=64,
    ),
}


SINCE_5: dict[str, Callable[[], Any]] = {
    "ministral3": _sized("Ministral3ForCausalLM", "Ministral3Config", rope_parameters=FAR),
    "ministral3-near": _sized(
        "Ministral3ForCausalLM",
        "Ministral3Config",
        rope_parameters=FAR | {"original_max_position_embeddings": POSITIONS},
    ),
    "jais2": _sized("Jais2ForCausalLM", "Jais2Config"),
    "hyperclovax": _sized("HyperCLOVAXForCausalLM", "HyperCLOVAXConfig"),
    "cwm": _sized("CwmForCausalLM", "CwmConfig", rope_parameters={**LLAMA3, "rope_theta": 1e6}),
    "nanochat": _sized("NanoChatForCausalLM", "NanoChatConfig"),
    "mellum": _sized(
        "MellumForCausalLM",
        "MellumConfig",
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
    ),
    "gpt_oss": _sized(
        "GptOssForCausalLM",
        "GptOssConfig",
        head_dim=32,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "mixtral": _sized(
        "MixtralForCausalLM", "MixtralConfig", num_local_experts=4, num_experts_per_tok=2
    ),
}
"""transformers 4.57 has no code for these, or none that can be traced."""
NEXT = int(transformers.__version__.partition(".")[0]) >= 5
if NEXT:
    MODELS |= SINCE_5


def make_model(name: str) -> Any:
    """The model `name`, its weights and biases random enough to show every mistake."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.15 if parameter.ndim > 1 else 0.3)
    model.set_attn_implementation("eager")
    return model


def write_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer with two turn marks and a template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "<s>", "<|end|>", "<|turn|>"]
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": "<|end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_model_folder(folder: Path, name: str = "llama", **save: Any) -> Path:
    """A whole model folder, as the hub has them."""
    make_model(name).save_pretrained(folder, **save)
    write_tokenizer(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder
