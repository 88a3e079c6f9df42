"""A small model that sees, of LLaVA's shape: the small CLIP's eyes, and a decoder that has learnt
from words alone to answer easy-vqa's questions. What brings the one to the other is not learnt yet:
that is what fine-tuning is for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from exporters.meaning.fitting import Course, fit
from exporters.meaning.questions import Asked
from exporters.trace.quiet import quiet

FORMS = ("a {colour} {shape}", "the {shape} is {colour}", "a picture of a {colour} {shape}")
"""How a decoder is told what it does not see."""
END, USER, ASSISTANT, SYSTEM = "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"
IMAGE = "<image>"
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MERGES = 300
"""Tokens of more than a byte: every word of the questions is one."""
TURNS = 4
"""Questions about what is told, one after the other."""
SEED = 13
LEARNING_RATE = 3e-3
CONTEXT = 512
PASSED_OVER = -100
"""What the loss does not count."""
SPREAD = 0.08
"""Of random weights."""


def train(
    asked: Sequence[Asked],
    clip: Path,
    course: Course,
    folder: Path,
    *,
    tell: Callable[[str], None],
) -> float:
    """Teach a decoder the questions in words, and write it with the eyes of the model in the folder
    `clip` to `folder`; the seconds it took."""
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    known = tokenizer(asked)
    told = [one for one in asked if one.shown.colour and one.shown.shape]
    decoder = _decoder(known)

    def loss_of(chosen: NDArray[np.int64]) -> torch.Tensor:
        rows = [_row(told[at], known, random) for at in chosen]
        ids = _padded([ids for ids, _ in rows], known.token_to_id(END))
        wanted = _padded([wanted for _, wanted in rows], PASSED_OVER)
        logits = decoder(input_ids=ids).logits[:, :-1]
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), wanted[:, 1:].flatten(), ignore_index=PASSED_OVER
        )

    took_s = fit(
        decoder,
        course,
        loss_of,
        pictures=len(told),
        rate=LEARNING_RATE,
        random=random,
        tell=tell,
    )
    _write(decoder, known, clip, folder)
    return took_s


def tokenizer(asked: Sequence[Asked]) -> Tokenizer:
    """By bytes and merges, of all that is asked, answered and told."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + MERGES, initial_alphabet=alphabet, show_progress=False
    )
    texts = {text for one in asked for pair in one.questions for text in pair}
    texts |= {
        form.format(colour=one.shown.colour, shape=one.shown.shape)
        for form in FORMS
        for one in asked
    }
    made.train_from_iterator(sorted(texts), trainer)
    special = (END, USER, ASSISTANT, SYSTEM, IMAGE)
    made.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in special])
    return made


def _row(one: Asked, known: Tokenizer, random: np.random.Generator) -> tuple[list[int], list[int]]:
    """Token ids of what is told and asked, and the same where it is to be learnt."""
    form = FORMS[int(random.choice(len(FORMS)))]
    told = form.format(colour=one.shown.colour, shape=one.shown.shape)
    ids: list[int] = []
    wanted: list[int] = []
    for at in random.permutation(len(one.questions))[:TURNS]:
        question, answer = one.questions[at]
        before = (
            f"{USER}{told}\n{question}{END}{ASSISTANT}"
            if not ids
            else (f"{USER}{question}{END}{ASSISTANT}")
        )
        asked, said = (known.encode(text).ids for text in (before, f"{answer}{END}"))
        ids += [*asked, *said]
        wanted += [*[PASSED_OVER] * len(asked), *said]
    return ids, wanted


def _padded(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    """Numbers [B, T], and `fill` behind the shorter rows."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])


def _decoder(known: Tokenizer) -> Any:
    config = transformers.LlamaConfig(
        vocab_size=known.get_vocab_size(),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        initializer_range=SPREAD,
        bos_token_id=None,
        eos_token_id=known.token_to_id(END),
        pad_token_id=known.token_to_id(END),
        tie_word_embeddings=False,
    )
    return transformers.LlamaForCausalLM(config)


def _write(decoder: Any, known: Tokenizer, clip: Path, folder: Path) -> None:
    end = known.token_to_id(END)
    with quiet():
        seen = transformers.CLIPModel.from_pretrained(clip)
        vision = seen.config.vision_config
        config = transformers.LlavaConfig(
            vision_config=vision,
            text_config=decoder.config,
            image_token_id=known.token_to_id(IMAGE),
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
            image_seq_length=(vision.image_size // vision.patch_size) ** 2 + 1,
        )
        model = transformers.LlavaForConditionalGeneration(config)
        model.model.vision_tower.vision_model.load_state_dict(seen.vision_model.state_dict())
        model.model.language_model.load_state_dict(decoder.model.state_dict())
        model.lm_head.load_state_dict(decoder.lm_head.state_dict())
        model.generation_config = transformers.GenerationConfig()
        model.save_pretrained(folder)
    shutil.copyfile(clip / "preprocessor_config.json", folder / "preprocessor_config.json")
    known.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END, "pad_token": END}))
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    ends = {"eos_token_id": end, "pad_token_id": end}
    (folder / "generation_config.json").write_text(json.dumps(ends))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A VLM of shapes\n")
