"""A small CLIP that learns what easy-vqa's pictures show: its captions, training and folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from exporters.meaning.easy_vqa import SIDE, Shown
from exporters.meaning.fitting import Course, fit, normalised
from exporters.trace.quiet import quiet

WHOLE = ("a {colour} {shape}", "the {shape} is {colour}", "a picture of a {colour} {shape}")
OF_COLOUR = ("a {colour} shape", "something {colour}")
OF_SHAPE = ("a {shape}", "a picture of a {shape}")
COLOUR_PROMPT, SHAPE_PROMPT = "a {} shape", "a {}"
SPECIAL = ("[PAD]", "[UNK]", "[BEGIN]", "[END]")
SEED = 7
LEARNING_RATE = 2e-3


SHORT = Course(steps=600, demanded=0.7)
WHOLE_COURSE = Course(steps=1500, demanded=0.9)


def train(
    shown: Sequence[Shown], course: Course, folder: Path, *, tell: Callable[[str], None]
) -> float:
    """Train on pictures of which all is told, and write the model, its tokenizer and how it
    prepares pictures to `folder`; the seconds it took."""
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    shown = [one for one in shown if one.colour and one.shape]
    words = _words(shown)
    model = _model(len(SPECIAL) + len(words))
    pixels = normalised(np.stack([one.pixels for one in shown]))

    def loss_of(chosen: NDArray[np.int64]) -> torch.Tensor:
        some = [shown[at] for at in chosen]
        captions = [_caption(one, random) for one in some]
        return _loss(model, pixels[torch.from_numpy(chosen)], captions, some, words)

    took_s = fit(
        model,
        course,
        loss_of,
        pictures=len(shown),
        rate=LEARNING_RATE,
        random=random,
        tell=tell,
    )
    _write(model, words, folder)
    return took_s


@dataclass(frozen=True, kw_only=True)
class _Caption:
    """What a caption says; None of what it is silent about."""

    text: str
    colour: str | None
    shape: str | None

    def is_true_of(self, one: Shown) -> bool:
        return self.colour in (None, one.colour) and self.shape in (None, one.shape)


def _caption(one: Shown, random: np.random.Generator) -> _Caption:
    """One of the things that can be said of a picture, half of them in whole."""
    kind = int(random.choice(4))
    forms = (WHOLE, WHOLE, OF_COLOUR, OF_SHAPE)[kind]
    text = forms[int(random.choice(len(forms)))].format(colour=one.colour, shape=one.shape)
    return _Caption(
        text=text,
        colour=one.colour if kind != 3 else None,
        shape=one.shape if kind != 2 else None,
    )


def _loss(
    model: Any,
    pixels: torch.Tensor,
    captions: Sequence[_Caption],
    some: Sequence[Shown],
    words: Sequence[str],
) -> torch.Tensor:
    """Cross-entropy both ways; all captions that are true of a picture are right for it."""
    ids = _ids([caption.text for caption in captions], words)
    logits = model(input_ids=ids, pixel_values=pixels).logits_per_image
    true = torch.tensor([[float(caption.is_true_of(one)) for caption in captions] for one in some])
    by_image = torch.nn.functional.cross_entropy(logits, true / true.sum(1, keepdim=True))
    turned = true.T
    by_text = torch.nn.functional.cross_entropy(logits.T, turned / turned.sum(1, keepdim=True))
    return (by_image + by_text) / 2


def _words(shown: Sequence[Shown]) -> list[str]:
    """Every word of the captions and prompts."""
    forms = [*WHOLE, *OF_COLOUR, *OF_SHAPE]
    said = {
        word
        for colour, shape in {(one.colour, one.shape) for one in shown}
        for form in forms
        for word in form.format(colour=colour, shape=shape).split()
    }
    return sorted(said)


def _model(vocabulary: int) -> Any:
    text = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 16,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "hidden_act": "gelu",
    }
    image = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": 8,
        "hidden_act": "gelu",
    }
    config = transformers.CLIPConfig(text_config=text, vision_config=image, projection_dim=64)
    return transformers.CLIPModel(config)


def tokenizer_of(words: Sequence[str]) -> Tokenizer:
    """Words to ids, those of `SPECIAL` before them; each text begins and ends with one."""
    tokens = [*SPECIAL, *words]
    made = Tokenizer(models.WordLevel({token: at for at, token in enumerate(tokens)}, "[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(list(SPECIAL))
    made.post_processor = processors.TemplateProcessing(
        single="[BEGIN] $A [END]", special_tokens=[("[BEGIN]", 2), ("[END]", 3)]
    )
    return made


def _ids(texts: Sequence[str], words: Sequence[str]) -> torch.Tensor:
    """Token ids [B, T], padded at the end."""
    known = {word: len(SPECIAL) + at for at, word in enumerate(words)}
    rows = [[2, *(known[word] for word in text.split()), 3] for text in texts]
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])


def _write(model: Any, words: Sequence[str], folder: Path) -> None:
    with quiet():
        model.save_pretrained(folder)
        transformers.CLIPImageProcessor(
            size={"shortest_edge": SIDE},
            crop_size={"height": SIDE, "width": SIDE},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ).save_pretrained(folder)
    tokenizer_of(words).save(str(folder / "tokenizer.json"))
    settings = {"pad_token": "[PAD]", "model_max_length": 16}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A small CLIP of shapes\n")
