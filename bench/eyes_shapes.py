"""Models that see, of real shapes and with random weights: they time as trained ones do, and what
they say means nothing. Needs the exporters' libraries."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from exporters.bundle.orders import variants_named
from exporters.cache import Cache
from exporters.model.source import Source
from exporters.model.vision_sources import vision_source
from exporters.trace.quiet import quiet
from exporters.vision_lm.build import export_vision_lm

SEED = 5
SIDE, PATCH = 336, 14
CONTEXT = 4096
TOKEN = "<image>"
SPECIAL = ("<pad>", "<s>", "</s>", TOKEN)
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
LETTERS = tuple(
    len(SPECIAL) + number for number, one in enumerate(ALPHABET) if one.isascii() and one.isalpha()
)
"""Tokens that are a letter each: of most that a decoder knows, the tokenizer has no text."""
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] %}"
    "{{ '<image>\n' if part['type'] == 'image' else part['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
LIMITS = {"kl": 99.0, "top1": 0.0, "golden": 0.0}
"""Random weights say nearly the same of every token, so that little changes what comes first."""
CLIP_L: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": SIDE,
    "patch_size": PATCH,
    "projection_dim": 768,
}
"""CLIP ViT-L/14 at 336 pixels, LLaVA 1.5's: 303 million parameters, 576 rows."""
CLIP_TINY = CLIP_L | {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
SMOLLM2: dict[str, Any] = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
}
"""SmolLM2-135M's."""
LLAMA_TINY = SMOLLM2 | {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model: its tower and its decoder, as transformers configures them."""

    name: str
    about: str
    tower: dict[str, Any]
    decoder: dict[str, Any]


SHAPES = {
    "tower": Shape(
        name="llava-tower-shape",
        about="CLIP ViT-L/14 at 336, as LLaVA 1.5 has it, and a decoder of 2 layers",
        tower=CLIP_L,
        decoder=LLAMA_TINY,
    ),
    "decoder": Shape(
        name="llava-decoder-shape",
        about="a CLIP of 3 layers, and a decoder of SmolLM2-135M's shape",
        tower=CLIP_TINY,
        decoder=SMOLLM2,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Made:
    """A bundle, and the seconds that making it took; 0 where it was there."""

    bundle: Path
    export_s: float


def bundle_of(shape: Shape, cache: Cache, variants: str) -> Made:
    """The bundle of a shape, made where it is not there."""
    place = cache.root / "bench-bundles" / f"{shape.name}-{variants.replace(',', '-')}"
    if place.exists():
        return Made(bundle=place, export_s=0.0)
    folder = cache.get(
        "bench-eyes",
        {"name": shape.name, "tower": shape.tower, "decoder": shape.decoder},
        title=f"Making random weights of {shape.name}",
        make=lambda folder: _write(folder, shape),
    )
    began_s = time.perf_counter()
    export_vision_lm(
        vision_source(Source(folder=folder, origin=shape.name)),
        place,
        variants=variants_named(variants),
        context=CONTEXT,
        name=shape.name,
        cache=cache,
        overrides=LIMITS,
    )
    return Made(bundle=place, export_s=time.perf_counter() - began_s)


def _write(folder: Path, shape: Shape) -> None:
    """The model, its processor and a tokenizer of bytes."""
    torch.manual_seed(SEED)
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *ALPHABET])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(one, special=True) for one in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**shape.tower),
        text_config=transformers.LlamaConfig(
            **shape.decoder, max_position_embeddings=CONTEXT, bos_token_id=1, eos_token_id=2
        ),
        image_token_id=SPECIAL.index(TOKEN),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=(SIDE // PATCH) ** 2,
    )
    with quiet():
        transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
        transformers.CLIPImageProcessor(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
        ).save_pretrained(folder)
