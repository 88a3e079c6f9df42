"""A tiny Gemma 3 that sees, with random weights, as transformers lays it out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer

from tests.export import tiny
from tests.export.tiny_dual_encoders import IMAGE

IMAGE_TOKEN, BEGIN, END = "<image_soft_token>", "<start_of_image>", "<end_of_image>"
SIDE, PATCH, ROWS, WINDOW = 32, 4, 16, 8
"""Patches are pooled in fours. The window of layers is shorter than a picture."""
TEMPLATE = (
    "<s>{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}"
    "{% for item in message['content'] %}{% if item['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% elif item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
"""As Gemma 3's, but for the names of roles."""


def make_gemma3(token_ids: tuple[int, int, int]) -> Any:
    """The model, its weights and biases random enough to show every mistake."""
    image_id, begin_id, end_id = token_ids
    torch.manual_seed(0)
    config = transformers.Gemma3Config(
        text_config={
            **tiny.SIZES,
            "max_position_embeddings": 512,
            "num_hidden_layers": 3,
            "head_dim": 16,
            "sliding_window": WINDOW,
            "tie_word_embeddings": False,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        vision_config={
            **IMAGE,
            "num_hidden_layers": 2,
            "image_size": SIDE,
            "patch_size": PATCH,
            "vision_use_head": False,
        },
        mm_tokens_per_image=ROWS,
        tie_word_embeddings=False,
        image_token_index=image_id,
        boi_token_index=begin_id,
        eoi_token_index=end_id,
    )
    model = transformers.Gemma3ForConditionalGeneration(config).eval()
    for name, parameter in model.named_parameters():
        told = 0.4 if "language_model" in name or "lm_head" in name else 0.15
        told = 0.05 if "embed_tokens" in name else told  # it is scaled by the model
        torch.nn.init.normal_(parameter, 0.0, told if parameter.ndim > 1 else 0.3)
    model.set_attn_implementation("eager")
    return model


def image_processor() -> Any:
    """What prepares pictures."""
    return transformers.Gemma3ImageProcessor(
        size={"height": SIDE, "width": SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        do_pan_and_scan=False,
    )


def write_gemma3_folder(folder: Path) -> Path:
    """The model, a byte-level tokenizer with its tokens for pictures, a processor's settings."""
    folder.mkdir(parents=True, exist_ok=True)
    make_gemma3(write_tokenizer(folder)).save_pretrained(folder)
    image_processor().save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


def write_tokenizer(folder: Path) -> tuple[int, int, int]:
    """The tokenizer of `tiny`, with tokens for pictures; their ids."""
    tiny.write_tokenizer(folder)
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    added = (IMAGE_TOKEN, BEGIN, END)
    tokenizer.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in added])
    tokenizer.save(str(path))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    image_id, begin_id, end_id = (int(tokenizer.token_to_id(one)) for one in added)
    return image_id, begin_id, end_id
