"""A small captioner, of ViT and GPT-2, that learns what easy-vqa's pictures show: its captions,
training and folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from exporters.meaning.easy_vqa import COLOURS, SHAPES, SIDE, Shown
from exporters.meaning.fitting import Course, fit, normalised
from exporters.trace.quiet import quiet

FORMS = ("a {colour} {shape}", "the {shape} is {colour}", "a picture of a {colour} {shape}")
END = "<|endoftext|>"
MERGES = 80
"""Tokens of more than a byte."""
SEED = 11
LEARNING_RATE = 2e-3
LONGEST = 16
PASSED_OVER = -100
"""What the loss does not count."""
SPREAD = 0.1
"""Of random weights: with the usual 0.02, at this width, a writer learns to pass pictures over."""


def train(
    shown: Sequence[Shown], course: Course, folder: Path, *, tell: Callable[[str], None]
) -> float:
    """Train on pictures of which all is told, and write the model, its tokenizer, how it prepares
    pictures and how it writes to `folder`; the seconds it took."""
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    shown = [one for one in shown if one.colour and one.shape]
    known = tokenizer()
    end = known.token_to_id(END)
    model = _model(known.get_vocab_size(), end)
    pixels = normalised(np.stack([one.pixels for one in shown]))

    def loss_of(chosen: NDArray[np.int64]) -> torch.Tensor:
        captions = [_caption(shown[at], random) for at in chosen]
        texts = [known.encode(text).ids for text in captions]
        # The model's own loss, given labels, is of the token after the next one.
        logits = model(
            pixel_values=_turned(pixels[torch.from_numpy(chosen)], random),
            decoder_input_ids=_padded([[end, *ids] for ids in texts], end),
        ).logits
        wanted = _padded([[*ids, end] for ids in texts], PASSED_OVER)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())

    took_s = fit(
        model,
        course,
        loss_of,
        pictures=len(shown),
        rate=LEARNING_RATE,
        random=random,
        tell=tell,
    )
    _write(model, known, folder)
    return took_s


def tokenizer() -> Tokenizer:
    """GPT-2's way, by bytes and merges, of the captions there are."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + MERGES, initial_alphabet=alphabet, show_progress=False
    )
    texts = [
        form.format(colour=colour, shape=shape)
        for form in FORMS
        for colour in sorted(COLOURS)
        for shape in sorted(SHAPES)
    ]
    made.train_from_iterator(texts, trainer)
    made.add_special_tokens([AddedToken(END, special=True)])
    return made


def _caption(one: Shown, random: np.random.Generator) -> str:
    form = FORMS[int(random.choice(len(FORMS)))]
    return form.format(colour=one.colour, shape=one.shape)


def _padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    """Token ids [B, T], and `fill` behind the shorter ones."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])


def _turned(pixels: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Pictures [B, 3, H, W], half of them mirrored, and half upside down: they show the same."""
    for axis in (2, 3):
        if random.random() < 0.5:
            pixels = pixels.flip(axis)
    return pixels


def _model(vocabulary: int, end: int) -> Any:
    eye = transformers.ViTConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=8,
        initializer_range=SPREAD,
    )
    writer = transformers.GPT2Config(
        vocab_size=vocabulary,
        n_embd=64,
        n_layer=2,
        n_head=4,
        n_positions=32,
        add_cross_attention=True,
        is_decoder=True,
        initializer_range=SPREAD,
        bos_token_id=end,
        eos_token_id=end,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(eye, writer)
    config.decoder_start_token_id = config.eos_token_id = config.pad_token_id = end
    return transformers.VisionEncoderDecoderModel(config)


def _write(model: Any, known: Tokenizer, folder: Path) -> None:
    end = known.token_to_id(END)
    with quiet():
        model.generation_config = transformers.GenerationConfig()
        model.save_pretrained(folder)
        transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    known.save(str(folder / "tokenizer.json"))
    writing = {"decoder_start_token_id": end, "eos_token_id": end, "pad_token_id": end}
    (folder / "generation_config.json").write_text(json.dumps(writing | {"max_length": LONGEST}))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A captioner of shapes\n")
