"""Small datasets in the shape that the command `dataset` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from exporters.finetune.examples import Example, Turn, validation_path, write_examples
from tests.export.tiny import POSITIONS, VOCABULARY, write_model_folder, write_tokenizer

QUESTIONS = ("who?", "where?", "what is it?", "when is the tide?", "why?", "how deep is it here?")


def example(row: int, question: str, answer: str) -> Example:
    """One exchange under the template of tests.export.tiny."""
    before = f"<|turn|>user\n{question}<|end|>\n<|turn|>assistant\n"
    text = f"{before}{answer}<|end|>\n"
    turns = (Turn("user", question), Turn("assistant", answer))
    return Example(row=row, messages=turns, text=text, learn=((len(before), len(text) - 1),))


def write_dataset(path: Path, *, held_back: int = 2) -> Path:
    """Twelve exchanges that end alike, and some held back."""
    rows = [
        example(i + 1, QUESTIONS[i % len(QUESTIONS)], f"aye {i}. fair winds") for i in range(12)
    ]
    with path.open("wb") as file:
        write_examples(file, rows)
    if held_back:
        with validation_path(path).open("wb") as file:
            write_examples(
                file, [example(20 + i, "well?", f"aye {i}. fair winds") for i in range(held_back)]
            )
    return path


def write_base(folder: Path, name: str = "llama", **save: Any) -> Path:
    """A whole model folder; besides those of tests.export.tiny, a GPT-2."""
    if name != "gpt2":
        return write_model_folder(folder, name, **save)
    torch.manual_seed(0)
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
    marks = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes, **marks))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.15)
    model.save_pretrained(folder, **save)
    write_tokenizer(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A little GPT-2\n")
    return folder
