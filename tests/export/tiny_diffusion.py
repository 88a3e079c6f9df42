"""Diffusers folders of the shapes of Stable Diffusion 1.5 and XL, tiny, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

WORDS = ("a", "red", "blue", "green", "circle", "square", "triangle", "on", "grey", "photo", "of")
CONTEXT = 20
"""Tokens of a text encoder's context."""


def write_tokenizer(folder: Path, pad: str = "<|endoftext|>") -> int:
    """CLIP's kind of tokenizer, of a few words, as its makers' folders have it; its size."""
    folder.mkdir(parents=True)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + [*"0123456789,.:()"]
    merges, tokens = [], [*letters, *(f"{letter}</w>" for letter in letters)]
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts = ["".join(parts[:2]), *parts[2:]]
            tokens.append(parts[0])
    tokens = list(dict.fromkeys(["!", "!</w>", *tokens, "<|startoftext|>", "<|endoftext|>"]))
    (folder / "vocab.json").write_text(json.dumps({token: at for at, token in enumerate(tokens)}))
    unique = dict.fromkeys(merges)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *unique]) + "\n")
    transformers.CLIPTokenizer(
        folder / "vocab.json",
        folder / "merges.txt",
        pad_token=pad,
        model_max_length=CONTEXT,
    ).save_pretrained(folder)
    return len(tokens)


def _text_config(vocabulary: int, width: int, **more: Any) -> Any:
    return transformers.CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
        **more,
    )


def _vae() -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
    )


def write_sd(folder: Path, scheduler: Any = None, **unet: Any) -> Path:
    """A folder of the shape of Stable Diffusion 1.5."""
    torch.manual_seed(7)
    vocabulary = write_tokenizer(folder / "tokenizer")
    pipeline = diffusers.StableDiffusionPipeline(
        text_encoder=transformers.CLIPTextModel(_text_config(vocabulary, 32)),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=diffusers.UNet2DConditionModel(
            **{
                "sample_size": 16,
                "block_out_channels": (32, 64),
                "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
                "cross_attention_dim": 32,
                "attention_head_dim": 4,
                "norm_num_groups": 8,
                "layers_per_block": 1,
                **unet,
            }
        ),
        vae=_vae(),
        scheduler=scheduler
        or diffusers.PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


def write_sdxl(folder: Path) -> Path:
    """A folder of the shape of Stable Diffusion XL."""
    torch.manual_seed(8)
    vocabulary = write_tokenizer(folder / "tokenizer")
    write_tokenizer(folder / "tokenizer_2", pad="!")
    second = _text_config(vocabulary, 48, projection_dim=40, hidden_act="gelu")
    pipeline = diffusers.StableDiffusionXLPipeline(
        text_encoder=transformers.CLIPTextModel(_text_config(vocabulary, 32)),
        text_encoder_2=transformers.CLIPTextModelWithProjection(second),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=diffusers.UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=80,
            attention_head_dim=(2, 4),
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
            norm_num_groups=8,
            layers_per_block=1,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 40,
        ),
        vae=_vae(),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    return folder
