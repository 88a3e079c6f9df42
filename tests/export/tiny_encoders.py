"""Tiny encoders with random weights, as sentence-transformers and transformers lay them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = ("a", "man", "is", "playing", "the", "guitar", "how", "do", "i", "change", "no", "return")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
VOCABULARY = len(SPECIAL) + len(WORDS) + 200
POSITIONS = 96
WIDTH = 64
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
}
DISTIL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "dim": WIDTH,
    "hidden_dim": 96,
    "n_layers": 2,
    "n_heads": 4,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
}
DEBERTA: dict[str, Any] = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "type_vocab_size": 0,
}
MODERN: dict[str, Any] = {
    "num_hidden_layers": 4,
    "local_attention": 16,
    "reference_compile": False,
    **dict.fromkeys(("bos_token_id", "cls_token_id"), 2),
    **dict.fromkeys(("eos_token_id", "sep_token_id"), 3),
}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertModel", "BertConfig", SIZES),
    "roberta": ("RobertaModel", "RobertaConfig", SIZES | {"type_vocab_size": 1}),
    "xlm-roberta": ("XLMRobertaModel", "XLMRobertaConfig", SIZES | {"pad_token_id": 1}),
    "camembert": ("CamembertModel", "CamembertConfig", SIZES | {"pad_token_id": 1}),
    "distilbert": ("DistilBertModel", "DistilBertConfig", DISTIL),
    "mpnet": ("MPNetModel", "MPNetConfig", SIZES | {"pad_token_id": 1}),
    "electra": ("ElectraModel", "ElectraConfig", SIZES | {"embedding_size": 32}),
    "deberta-v2": ("DebertaV2Model", "DebertaV2Config", SIZES | DEBERTA),
    "modernbert": ("ModernBertModel", "ModernBertConfig", SIZES | MODERN),
}


def make_encoder(family: str = "bert", **changes: Any) -> Any:
    """A model of the family, its weights and biases random enough to show every mistake."""
    torch.manual_seed(0)
    model, config, sizes = MODELS[family]
    settings = getattr(transformers, config)(**{**sizes, **changes})
    settings._attn_implementation = "eager"
    made = getattr(transformers, model)(settings)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.15 if parameter.ndim > 1 else 0.3)
    return made.eval()


def make_masked_lm() -> Any:
    """BERT with a head, as it comes from pre-training."""
    torch.manual_seed(1)
    return transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))


def write_tokenizer(folder: Path) -> None:
    """Words, in lower case, between [CLS] and [SEP]; letters are words, too."""
    letters = [chr(number) for number in range(33, 33 + 200) if chr(number) not in WORDS]
    tokens = [*SPECIAL, *WORDS, *letters][:VOCABULARY]
    tokenizer = Tokenizer(
        models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def write_encoder_folder(folder: Path, family: str = "bert", **changes: Any) -> Path:
    """A folder of sentence-transformers: mean pooling, normalised, texts of 48 tokens at most."""
    make_encoder(family, **changes).save_pretrained(folder)
    write_tokenizer(folder)
    kinds = ("Transformer", "Pooling", "Normalize")
    paths = ("", "1_Pooling", "2_Normalize")
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})
    set_pooling(folder, "mean_tokens")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


def set_pooling(folder: Path, *modes: str) -> None:
    """Let the folder pool in these ways."""
    flags = {f"pooling_mode_{mode}": True for mode in modes}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH, **flags})


def write_json(path: Path, content: object) -> None:
    """As the libraries write it."""
    path.write_text(json.dumps(content))
