"""Model folders to read, whole and changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors

from exporters.model.source import Source

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_attention_heads": 2,
    "hidden_size": 32,
    "eos_token_id": 2,
}
VOCABULARY = {"a": 0, "<s>": 1, "</s>": 2, "<|end|>": 3}


def tokenizer(template: str | None = None) -> Tokenizer:
    made = Tokenizer(models.WordLevel(VOCABULARY, unk_token="a"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["<s>", "</s>", "<|end|>"])
    if template is not None:
        special = [("<s>", 1), ("</s>", 2)]
        made.post_processor = processors.TemplateProcessing(template, special_tokens=special)
    return made


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def source(folder: Path) -> Source:
    return Source(folder=folder, origin="tiny")


def config(**changes: object) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / "config.json", CONFIG | changes)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()
