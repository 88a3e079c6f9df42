"""A base model's folder without weights: a byte-level tokenizer, the starter's template."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from exporters.model.source import Source
from exporters.model.texts import TextReader

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] +"
    " '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTEXT = 512


def tokenizer() -> Tokenizer:
    """A token a byte, and the marks of turns."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(special)
    made.add_tokens([AddedToken("<think>"), AddedToken("</think>")])
    return made


def text_reader(template: str | None = CHATML, *, eos: str | None = "<|im_end|>") -> TextReader:
    """What renders and encodes for the base."""
    return TextReader(
        tokenizer=tokenizer(), template=template, bos_token=None, eos_token=eos, add_bos=False
    )


def base_folder(folder: Path, *, template: str | None = CHATML) -> Path:
    """Write a folder that has all but the weights."""
    folder.mkdir(parents=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"eos_token": "<|im_end|>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": CONTEXT}))
    return folder


def base_source(folder: Path) -> Source:
    """The same as a source."""
    return Source(folder=base_folder(folder), origin="tiny")
