"""Tiny captioners with random weights, as transformers lays them out: ViT or DeiT, and GPT-2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SIDE, PATCH = 36, 8
"""Pixels: a row of patches leaves 4 over."""
HIDDEN, WIDTH, HEADS, POSITIONS = 48, 64, 4, 48
LENGTH = 14
SIZES = {"crossattention": 0.8, "enc_to_dec": 0.8, "wte": 0.05, "wpe": 0.3}
"""Of random weights, so that a caption follows the picture more than its own last word."""


def tokenizer() -> Tokenizer:
    """Every byte a token, and GPT-2's only control token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    return made


def make_captioner(
    *, encoder: str = "vit", eye: dict[str, Any] | None = None, **decoder: Any
) -> Any:
    """A model whose weights and biases are random enough to show every mistake."""
    torch.manual_seed(0)
    kind = {"vit": transformers.ViTConfig, "deit": transformers.DeiTConfig}[encoder]
    looks = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 80,
        "image_size": SIDE,
        "patch_size": PATCH,
        **(eye or {}),
    }
    known = tokenizer()
    end = known.token_to_id("<|endoftext|>")
    writes = transformers.GPT2Config(
        **{
            "vocab_size": known.get_vocab_size(),
            "n_embd": WIDTH,
            "n_layer": 3,
            "n_head": HEADS,
            "n_positions": POSITIONS,
            "add_cross_attention": True,
            "is_decoder": True,
            "bos_token_id": end,
            "eos_token_id": end,
            **decoder,
        }
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        kind(**looks), writes
    )
    config.decoder_start_token_id = config.eos_token_id = config.pad_token_id = end
    made = transformers.VisionEncoderDecoderModel(config)
    for name, parameter in made.named_parameters():
        usual = 0.15 if parameter.ndim > 1 else 0.3
        sizes = [size for part, size in SIZES.items() if part in name]
        torch.nn.init.normal_(parameter, 0.0, sizes[0] if sizes else usual)
    made.tie_weights()
    return made.eval()


def write_captioner_folder(folder: Path, **changes: Any) -> Path:
    """Save a model with its tokenizer, how it reads pictures and how it writes; the folder."""
    model, known = make_captioner(**changes), tokenizer()
    end = known.token_to_id("<|endoftext|>")
    folder.mkdir(parents=True)
    model.generation_config = transformers.GenerationConfig()
    model.save_pretrained(folder)
    known.save(str(folder / "tokenizer.json"))
    transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    told = {
        "decoder_start_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "max_length": LENGTH,
        "num_beams": 4,
    }
    (folder / "generation_config.json").write_text(json.dumps(told))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder
