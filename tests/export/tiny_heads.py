"""Tiny models of every family with heads, their weights random enough to show every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tests.export.tiny_encoders import MODELS, write_json

HEADS = ("MaskedLM", "SequenceClassification", "TokenClassification")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PIECES = (
    *("marta", "lives", "in", "harbour", "town", "works", "for", "acme", "and", "the", "is", "a"),
    *("##s", "##ly", "##ville", "##or", "north", "new", "un", "##known", "."),
)
LABELS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}
SETTINGS = {
    "unk_token": "[UNK]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
}


def make_head(family: str, head: str, **changes: Any) -> Any:
    """A model of `family` with the head `head`."""
    torch.manual_seed(0)
    name, config, sizes = MODELS[family]
    kind = getattr(transformers, f"{name.removesuffix('Model')}For{head}")
    made = kind(getattr(transformers, config)(**{**sizes, **changes}))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.15 if parameter.ndim > 1 else 0.3)
    made.tie_weights()
    return made.eval()


def word_pieces(vocabulary: int) -> Tokenizer:
    """Pieces of words between [CLS] and [SEP], pairs with kinds; as many tokens as wanted."""
    letters = [chr(number) for number in range(97, 123)]
    letters += [f"##{letter}" for letter in letters]
    known = dict.fromkeys([*SPECIAL, *PIECES, *letters])
    fillers = (f"filler{number}" for number in range(vocabulary))
    tokens = [*known, *fillers][:vocabulary]
    made = Tokenizer(
        models.WordPiece({one: at for at, one in enumerate(tokens)}, unk_token="[UNK]")
    )
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(list(SPECIAL))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return made


def write_head_folder(folder: Path, family: str, head: str, **changes: Any) -> Path:
    """A model folder of transformers alone."""
    model = make_head(family, head, **changes)
    model.save_pretrained(folder)
    word_pieces(model.config.vocab_size).save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", SETTINGS)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder
