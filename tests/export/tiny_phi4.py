"""A tiny Phi-4-multimodal with random weights and adapters, as transformers lays it out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from tokenizers import AddedToken, Tokenizer

from tests.export import tiny

IMAGE_TOKEN, AUDIO_TOKEN = "<|endoftext10|>", "<|endoftext11|>"
SIDE, PATCH, MOST = 448, 14, 4
CONTEXT = 2048
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>'"
    " }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""As Phi-4-multimodal's, but for tools."""
RANKS = {"vision": 4, "speech": 6}
TARGETS = r".*layers\.\d+\.(self_attn\.(qkv|o)_proj|mlp\.(gate_up|down)_proj)"


def config(image_id: int, audio_id: int) -> Any:
    return transformers.Phi4MultimodalConfig(
        **tiny.SIZES
        | {
            "max_position_embeddings": CONTEXT,
            "original_max_position_embeddings": CONTEXT,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "crop_size": SIDE,
            "patch_size": PATCH,
            "image_token_id": image_id,
        },
        audio_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_blocks": 2,
            "num_attention_heads": 2,
            "ext_pw_out_channel": 32,
            "depthwise_separable_out_channel": 32,
            "nemo_conv_channels": 16,
            "audio_token_id": audio_id,
        },
    )


def make_phi4(image_id: int, audio_id: int) -> Any:
    """The model, its weights and biases random enough to show every mistake."""
    torch.manual_seed(0)
    model = transformers.Phi4MultimodalForCausalLM(config(image_id, audio_id)).eval()
    for name, parameter in model.named_parameters():
        told = 0.15 if "embed_tokens_extend" in name else 0.4
        torch.nn.init.normal_(parameter, 0.0, told if parameter.ndim > 1 else 0.3)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("global_mean"):
                buffer.copy_(torch.linspace(4, 12, len(buffer)))
            elif name.endswith("global_invstd"):
                buffer.copy_(torch.linspace(0.2, 0.4, len(buffer)))
    model.set_attn_implementation("eager")
    return model


def with_adapter(model: Any, mode: str) -> Any:
    """The model with an adapter of random weights, by peft; the same each time."""
    torch.manual_seed({"vision": 1, "speech": 2}[mode])
    told = peft.LoraConfig(r=RANKS[mode], lora_alpha=2 * RANKS[mode], target_modules=TARGETS)
    adapted = peft.get_peft_model(model, told)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.2)
    return adapted.eval()


def write_phi4_folder(folder: Path) -> Path:
    """The model and its adapters, a byte-level tokenizer with its tokens for media, the settings
    of its processors."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = write_tokenizer(folder)
    make_phi4(*ids).save_pretrained(folder)
    for mode in RANKS:
        with_adapter(make_phi4(*ids), mode).save_pretrained(folder / f"{mode}-lora")
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "Phi4MultimodalImageProcessorFast",
                "feature_extractor_type": "Phi4MultimodalFeatureExtractor",
                "dynamic_hd": MOST,
            }
        )
    )
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


def write_tokenizer(folder: Path) -> tuple[int, int]:
    """The tokenizer of `tiny`, with tokens for media; their ids."""
    tiny.write_tokenizer(folder)
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_special_tokens(
        [AddedToken(one, special=True, normalized=False) for one in (IMAGE_TOKEN, AUDIO_TOKEN)]
    )
    tokenizer.save(str(path))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return tokenizer.token_to_id(IMAGE_TOKEN), tokenizer.token_to_id(AUDIO_TOKEN)
