"""Tiny CLIP and SigLIP with random weights, as transformers lays them out, and a photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.export.tiny_encoders import write_json

PHOTOGRAPH = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
WORDS = ("a", "photo", "of", "the", "red", "green", "square", "circle", "woman", "uniform")
VOCABULARY = 300
SIDE, PATCH, WIDTH = 32, 8, 48
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
IMAGE: dict[str, Any] = {
    "hidden_size": 80,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "image_size": SIDE,
    "patch_size": PATCH,
}
FAMILIES = ("clip", "clip-legacy", "siglip")


def make_dual_encoder(family: str = "clip", *, side: int = SIDE) -> Any:
    """A model of the family, its weights and biases random enough to show every mistake."""
    torch.manual_seed(0)
    image = IMAGE | {"image_size": side}
    if family == "siglip":
        text = TEXT | {"max_position_embeddings": 16, "pad_token_id": 0, "projection_size": 80}
        config = transformers.SiglipConfig(text_config=text, vision_config=image)
        made: Any = transformers.SiglipModel(config)
    else:
        end = 2 if family == "clip-legacy" else VOCABULARY - 1
        text = TEXT | {"max_position_embeddings": 32, "eos_token_id": end, "pad_token_id": 0}
        config = transformers.CLIPConfig(
            text_config=text, vision_config=image, projection_dim=WIDTH
        )
        made = transformers.CLIPModel(config)
    for name, parameter in made.named_parameters():
        if "logit" not in name:
            torch.nn.init.normal_(parameter, 0.0, 0.15 if parameter.ndim > 1 else 0.3)
    made.set_attn_implementation("eager")
    return made.eval()


def write_dual_folder(folder: Path, family: str = "clip", *, side: int = SIDE) -> Path:
    """The model, a tokenizer of words and letters, and how pictures are prepared."""
    make_dual_encoder(family, side=side).save_pretrained(folder)
    _write_tokenizer(folder, ends_only=family == "siglip")
    if family == "siglip":
        processor: Any = transformers.SiglipImageProcessor(size={"height": side, "width": side})
    else:
        processor = transformers.CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        )
    processor.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


def _write_tokenizer(folder: Path, *, ends_only: bool) -> None:
    special = ["[PAD]", "[UNK]"]
    letters = [chr(number) for number in range(33, 400) if chr(number) not in WORDS]
    tokens = [*special, *WORDS, *letters][: VOCABULARY - 2]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    made = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([*special, *tokens[-2:]])
    made.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>" if ends_only else "<|startoftext|> $A <|endoftext|>",
        special_tokens=[(token, tokens.index(token)) for token in tokens[-2:]],
    )
    made.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"pad_token": "[PAD]", "model_max_length": 32})
