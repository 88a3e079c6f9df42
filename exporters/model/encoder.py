"""What the folder of an encoder says: its family, how it makes one vector of a text, how much it
reads.

Two layouts are known: that of sentence-transformers (modules.json and the folders that it names),
and a model of transformers alone, which sentence-transformers reads with mean pooling and without
normalising; so is it read here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporters.errors import Refused
from exporters.model.encoder_families import FAMILIES, Family
from exporters.model.files import Json, is_count, read_list, read_object, shown
from exporters.model.heads import has_head, read_head
from exporters.model.source import TOKENIZER_SETTINGS, Source
from nsedge.bundle.headed import AnyHead

MODULES_FILE = "modules.json"
SETTINGS_FILE = "sentence_bert_config.json"
PROMPTS_FILE = "config_sentence_transformers.json"
KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
POOLING_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
"""What sentence-transformers calls them, as flags and in one word."""
POOLINGS = ("mean", "cls", "last")
ACTIVATIONS = ("gelu",)
FOLDER_NAME = re.compile(r"[\w.-]+", re.ASCII)
ENDLESS = 1 << 31


@dataclass(frozen=True, kw_only=True)
class EncoderShape:
    """Sizes of an encoder, and how it pools, or which head it has.

    - first_position: the row of its table of positions that a text's first token has.
    - embedding: the width of its tables, mostly `hidden`.
    """

    family: Family
    layers: int
    heads: int
    hidden: int
    epsilon: float
    vocabulary: int
    pad_id: int
    first_position: int
    context_length: int
    pooling: str
    normalised: bool
    head: AnyHead | None = None
    embedding: int


def is_encoder(source: Source) -> bool:
    """Whether the folder is to be exported as one: it says how to make vectors, or it is a model of
    a family that is known, without a head or with one that is known."""
    if _has_modules(source):
        return True
    known = FAMILIES.get(str(source.config.get("model_type")))
    if known is None:
        return False
    named = source.architecture()
    return named == f"{known.stem}Model" or has_head(known, named)


def read_shape(source: Source, *, max_context: int | None = None) -> EncoderShape:
    """All that is to be known of the encoder in a folder, before any weight is read.

    `max_context` bounds the tokens of a text, which its makers may bound further.

    Raises:
        Refused: naming what cannot be exported.
        ExportError: a file is missing or damaged.
    """
    config, family = source.config, _family(source)
    pooling, normalised, settings = _modules(source)
    headed = not _has_modules(source) and has_head(family, source.architecture())
    _check_config(source, family, config)
    if not source.tokenizer_file.is_file():
        raise Refused(f"{source.folder}: no tokenizer.json; save the fast tokenizer there")
    source.parameters()
    pad_id = config.get("pad_token_id") or 0
    first = pad_id + 1 if family.positions_after_padding else 0
    bounds = [config["max_position_embeddings"] - first, max_context]
    bounds += [
        _bound(source.folder / SETTINGS_FILE, settings, "max_seq_length"),
        _bound(source.folder / TOKENIZER_SETTINGS, source.tokenizer_config, "model_max_length"),
    ]
    return EncoderShape(
        family=family,
        layers=config[family.layers],
        heads=config[family.heads],
        hidden=config[family.hidden],
        epsilon=float(config.get("layer_norm_eps", family.epsilon)),
        vocabulary=config["vocab_size"],
        pad_id=pad_id,
        first_position=first,
        context_length=min(bound for bound in bounds if bound is not None),
        pooling=pooling,
        normalised=normalised,
        head=read_head(source) if headed else None,
        embedding=config.get("embedding_size") or config[family.hidden],
    )


def _has_modules(source: Source) -> bool:
    return (source.folder / MODULES_FILE).is_file()


def _family(source: Source) -> Family:
    kind = str(source.config.get("model_type"))
    family = FAMILIES.get(kind)
    if family is None:
        known = ", ".join(FAMILIES)
        raise Refused(
            f"{source.architecture()} ({kind}) is no encoder that is exported; there are {known}"
        )
    return family


def _check_config(source: Source, family: Family, config: Json) -> None:
    """Whether the graph has a form of everything that the configuration asks for."""
    path = source.folder / "config.json"
    needed = (family.layers, family.heads, family.hidden, "vocab_size", "max_position_embeddings")
    for key in needed:
        if not is_count(config.get(key)) or not config[key]:
            told = shown(config.get(key))
            raise Refused(f"{path}: {key} must be a whole number above 0, not {told}")
    padding, epsilon = config.get("pad_token_id") or 0, config.get("layer_norm_eps", family.epsilon)
    if not is_count(padding) or padding >= config["vocab_size"]:
        raise Refused(f"{path}: pad_token_id must be a token's id, not {shown(padding)}")
    if not isinstance(epsilon, float | int) or not 0 <= epsilon < 1:
        raise Refused(f"{path}: layer_norm_eps must be from 0 to 1, not {shown(epsilon)}")
    activation = config.get(family.activation, "gelu")
    if activation not in ACTIVATIONS:
        raise Refused(f"the activation {shown(activation)} has no form here; known is gelu")
    positions = config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise Refused(f"positions are {shown(positions)}; only absolute ones have a form here")
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise Refused(f"{source.architecture()} is set up as a decoder; only encoders make vectors")
    if config[family.hidden] % config[family.heads]:
        raise Refused(f"{config[family.heads]} heads do not divide {config[family.hidden]} numbers")
    if "quantization_config" in config:
        raise Refused(f"{source.folder}: the weights are quantised already; use the original ones")


def _modules(source: Source) -> tuple[str, bool, Json]:
    """How the folder pools, whether it normalises, and the settings of its text module."""
    folder = source.folder
    if not _has_modules(source):
        return "mean", False, {}
    modules = read_list(folder / MODULES_FILE)
    kinds = [_kind(module) for module in modules]
    for kind in kinds:
        if kind not in KNOWN_MODULES:
            known = ", ".join(KNOWN_MODULES)
            raise Refused(f"{folder / MODULES_FILE}: the module {kind} has no form here: {known}")
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        order = ", ".join(kinds)
        raise Refused(f"{folder / MODULES_FILE}: {order}: to be Transformer, Pooling (, Normalize)")
    if path := modules[0].get("path"):
        raise Refused(f"{folder / MODULES_FILE}: the model lies in {shown(path)}, not beside it")
    place = str(modules[1].get("path"))
    if not FOLDER_NAME.fullmatch(place):
        raise Refused(f"{folder / MODULES_FILE}: {shown(place)} is no folder's name")
    settings = folder / SETTINGS_FILE
    known_settings = read_object(settings) if settings.is_file() else {}
    _check_texts(source, known_settings)
    pooling = _pooling(read_object(folder / place / "config.json"))
    return pooling, kinds[-1] == "Normalize", known_settings


def _kind(module: Any) -> str:
    kind = module.get("type") if isinstance(module, Mapping) else None
    return shown(str(kind).rpartition(".")[2]).strip("'")


def _check_texts(source: Source, settings: Json) -> None:
    """Refuse what changes a text before the tokenizer reads it: a bundle has no word for that."""
    if settings.get("do_lower_case"):
        raise Refused(
            f"{source.folder / SETTINGS_FILE}: do_lower_case is set; a tokenizer.json that lowers"
            " letters itself has a form here"
        )
    path = source.folder / PROMPTS_FILE
    default = read_object(path).get("default_prompt_name") if path.is_file() else None
    if default is not None:
        raise Refused(f"{path}: every text gets the prompt {shown(default)}; that has no form here")


def _bound(path: Path, settings: Json, key: str) -> int | None:
    """Tokens that a setting allows a text, where it says so; a library's "endless" is no number of
    any use."""
    stated = settings.get(key)
    if stated is None or (isinstance(stated, float | int) and stated >= ENDLESS):
        return None
    if not is_count(stated) or not stated:
        raise Refused(f"{path}: {key} must be a whole number above 0, not {shown(stated)}")
    return stated


def _pooling(config: Json) -> str:
    stated = config.get("pooling_mode")
    wanted = stated if isinstance(stated, list) else [] if stated is None else [stated]
    wanted = wanted or [word for flag, word in POOLING_FLAGS.items() if config.get(flag)]
    for word in wanted:
        if word not in POOLINGS:
            known = ", ".join(POOLINGS)
            raise Refused(f"pooling by {shown(word)} has no form here; known are {known}")
    if len(wanted) != 1:
        raise Refused(f"pooling by {' and '.join(wanted) or 'nothing'}: one way is to be stated")
    return str(wanted[0])


def modules_of(folder: Path) -> tuple[str, ...]:
    """The folders that a model's modules.json names, beside its own."""
    path = folder / MODULES_FILE
    modules = read_list(path) if path.is_file() else []
    return tuple(str(module["path"]) for module in modules if module.get("path"))
