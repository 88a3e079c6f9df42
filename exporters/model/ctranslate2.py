"""CTranslate2's files of weights, and a Whisper model in one, as a folder that transformers reads.

A file is a version, a name and a revision, then arrays, each with name, shape, type and bytes, then
further names of arrays. Matrices in int8 have a scale a row, by which they are to be divided.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from exporters.errors import ExportError, Refused
from exporters.model.files import Json, is_count, read_object, shown
from exporters.model.source import read_tokenizer
from exporters.model.speech import MULTILINGUAL_ROWS

WEIGHTS_FILE = "model.bin"
SPEC = "WhisperSpec"
VERSIONS = (5, 6)
TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
MOST_DIMENSIONS = 8
COPIED = ("tokenizer.json", "README.md", "LICENSE")
ATTENTIONS = {"encoder": ("self_attention",), "decoder": ("self_attention", "attention")}
FIRST_TIMESTAMPS = 50
"""How many a window may begin with, 0.02 s apart: what all of Whisper's makers' models have."""

Array = NDArray[Any]


def is_ctranslate2(folder: Path) -> bool:
    """Whether a folder is one of CTranslate2's."""
    return (folder / WEIGHTS_FILE).is_file() and not any(folder.glob("*.safetensors"))


def read_weights(path: Path) -> tuple[str, dict[str, Array]]:
    """What the model is said to be, and its arrays by name, mapped from the file.

    Raises:
        ExportError: it is cut short, or another thing.
    """
    try:
        return _File(path).read()
    except (OSError, struct.error, ValueError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} is no CTranslate2 model, or cut short: {error}") from error


class _File:
    def __init__(self, path: Path) -> None:
        self._bytes = np.memmap(path, np.uint8, mode="r")
        self._at = 0

    def read(self) -> tuple[str, dict[str, Array]]:
        (version,) = self._numbers("I")
        if version not in VERSIONS:
            raise ValueError(f"binary version {version}; known are {VERSIONS}")
        name, _ = self._text(), self._numbers("I")
        arrays = {}
        for _ in range(self._numbers("I")[0]):
            array = self._text()
            arrays[array] = self._array()
        for _ in range(self._numbers("I")[0]):
            alias = self._text()
            arrays[alias] = arrays[self._text()]
        return name, arrays

    def _array(self) -> Array:
        (rank,) = self._numbers("B")
        if rank > MOST_DIMENSIONS:
            raise ValueError(f"an array of {rank} dimensions")
        shape = self._numbers(f"{rank}I")
        kind, size = *self._numbers("B"), *self._numbers("I")
        if kind >= len(TYPES) or TYPES[kind] == "bfloat16":
            raise ValueError(f"an array of the type {kind}")
        return self._take(size).view(TYPES[kind]).reshape(shape)

    def _text(self) -> str:
        (length,) = self._numbers("H")
        return self._take(length)[:-1].tobytes().decode()

    def _numbers(self, form: str) -> tuple[int, ...]:
        form = f"<{form}"
        return struct.unpack(form, self._take(struct.calcsize(form)).tobytes())

    def _take(self, size: int) -> Array:
        taken = self._bytes[self._at : self._at + size]
        if len(taken) < size:
            raise ValueError("it ends too early")
        self._at += size
        return taken


def write_whisper(source: Path, folder: Path) -> None:
    """Write the Whisper model in CTranslate2's folder `source` as transformers has one.

    Raises:
        Refused: it is another model, or lacks a file.
        ExportError: a file is damaged.
    """
    spec, arrays = read_weights(source / WEIGHTS_FILE)
    if spec != SPEC:
        raise Refused(f"{source}: of CTranslate2's models Whisper is exported, not {shown(spec)}")
    if not (source / "tokenizer.json").is_file():
        raise Refused(f"{source}: no tokenizer.json; save the fast tokenizer there")
    tokenizer = read_tokenizer(source / "tokenizer.json")
    try:
        config = _config(arrays, tokenizer)
        weights = _Renaming(arrays).weights(config)
    except KeyError as error:
        raise ExportError(f"{source / WEIGHTS_FILE}: no array {error}") from error
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    stated = read_object(source / "config.json")
    generation = _generation(stated, tokenizer, rows=config["vocab_size"])
    for name, content in (("config.json", config), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for name in COPIED:
        if (source / name).is_file():
            (folder / name).write_bytes((source / name).read_bytes())


def _config(arrays: dict[str, Array], tokenizer: Tokenizer) -> Json:
    vocabulary, width = arrays["decoder/embeddings/weight"].shape
    layers = {
        side: sum(name.endswith("ffn/linear_0/weight") for name in arrays if name.startswith(side))
        for side in ("encoder", "decoder")
    }
    end, start = (_token(tokenizer, f"<|{name}|>") for name in ("endoftext", "startoftranscript"))
    heads = int(arrays["encoder/num_heads"])
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "is_encoder_decoder": True,
        "activation_function": "gelu",
        "vocab_size": vocabulary,
        "d_model": width,
        "num_mel_bins": arrays["encoder/conv1/weight"].shape[1],
        "encoder_layers": layers["encoder"],
        "decoder_layers": layers["decoder"],
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": len(arrays["encoder/layer_0/ffn/linear_0/bias"]),
        "decoder_ffn_dim": len(arrays["decoder/layer_0/ffn/linear_0/bias"]),
        "max_source_positions": len(arrays["encoder/position_encodings/encodings"]),
        "max_target_positions": len(arrays["decoder/position_encodings/encodings"]),
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": start,
        "tie_word_embeddings": True,
    }


class _Renaming:
    """Arrays by the names of CTranslate2 to weights by those of transformers, in fp32."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self._arrays = arrays
        self._weights: dict[str, Array] = {}

    def weights(self, config: Json) -> dict[str, Array]:
        for conv in ("conv1", "conv2"):
            self._linear(f"encoder.{conv}", f"encoder/{conv}")
        self._put("decoder.embed_tokens.weight", "decoder/embeddings/weight")
        for side in ("encoder", "decoder"):
            places = f"{side}/position_encodings/encodings"
            self._put(f"{side}.embed_positions.weight", places)
            self._norm(f"{side}.layer_norm", f"{side}/layer_norm")
            for layer in range(config[f"{side}_layers"]):
                self._layer(side, f"{side}.layers.{layer}", f"{side}/layer_{layer}")
        return self._weights

    def _layer(self, side: str, to: str, of: str) -> None:
        for theirs in ATTENTIONS[side]:
            own = "self_attn" if theirs == "self_attention" else "encoder_attn"
            self._norm(f"{to}.{own}_layer_norm", f"{of}/{theirs}/layer_norm")
            parts = ["q_proj", "k_proj", "v_proj"]
            if own == "self_attn":
                self._split(f"{to}.{own}", parts, f"{of}/{theirs}/linear_0")
                self._linear(f"{to}.{own}.out_proj", f"{of}/{theirs}/linear_1")
            else:
                self._linear(f"{to}.{own}.q_proj", f"{of}/{theirs}/linear_0")
                self._split(f"{to}.{own}", parts[1:], f"{of}/{theirs}/linear_1")
                self._linear(f"{to}.{own}.out_proj", f"{of}/{theirs}/linear_2")
        self._norm(f"{to}.final_layer_norm", f"{of}/ffn/layer_norm")
        self._linear(f"{to}.fc1", f"{of}/ffn/linear_0")
        self._linear(f"{to}.fc2", f"{of}/ffn/linear_1")

    def _norm(self, to: str, of: str) -> None:
        self._put(f"{to}.weight", f"{of}/gamma")
        self._put(f"{to}.bias", f"{of}/beta")

    def _linear(self, to: str, of: str) -> None:
        self._put(f"{to}.weight", f"{of}/weight")
        self._put(f"{to}.bias", f"{of}/bias")

    def _split(self, to: str, parts: list[str], of: str) -> None:
        """Cut a joint projection into its parts; keys have no bias in transformers."""
        weights = np.split(self._floats(f"{of}/weight"), len(parts))
        biases = np.split(self._floats(f"{of}/bias"), len(parts))
        for part, weight, bias in zip(parts, weights, biases, strict=True):
            self._weights[f"model.{to}.{part}.weight"] = np.ascontiguousarray(weight)
            if part != "k_proj":
                self._weights[f"model.{to}.{part}.bias"] = np.ascontiguousarray(bias)
            elif bias.any():
                raise Refused(f"{of}: keys have a bias, which no Whisper of transformers has")

    def _put(self, to: str, of: str) -> None:
        self._weights[f"model.{to}"] = self._floats(of)

    def _floats(self, name: str) -> Array:
        array = self._arrays[name]
        if array.dtype == np.int8:
            scales = np.asarray(self._arrays[f"{name}_scale"], np.float32)
            return (array / scales.reshape(-1, *[1] * (array.ndim - 1))).astype(np.float32)
        return np.ascontiguousarray(array, np.float32)


def _generation(config: Json, tokenizer: Tokenizer, *, rows: int) -> Json:
    """What transformers' generation_config.json says, of CTranslate2's config.json, which may name
    languages of a model of English alone, too: that has a vocabulary of fewer rows."""
    start, end = (_token(tokenizer, f"<|{name}|>") for name in ("startoftranscript", "endoftext"))
    languages = config.get("lang_ids") or []
    if not all(is_count(number) for number in languages):
        raise Refused(f"config.json: lang_ids must be token ids, not {shown(languages)}")
    many = rows >= MULTILINGUAL_ROWS and len(languages) > 1
    made: Json = {
        "decoder_start_token_id": start,
        "eos_token_id": end,
        "suppress_tokens": config.get("suppress_ids", []),
        "begin_suppress_tokens": config.get("suppress_ids_begin", []),
        "no_timestamps_token_id": _token(tokenizer, "<|notimestamps|>"),
        "prev_sot_token_id": _token(tokenizer, "<|startofprev|>"),
        "alignment_heads": config.get("alignment_heads", []),
        "max_initial_timestamp_index": FIRST_TIMESTAMPS,
        "is_multilingual": many,
    }
    if many:
        made["lang_to_id"] = {tokenizer.id_to_token(number): number for number in languages}
        made["task_to_id"] = {
            task: _token(tokenizer, f"<|{task}|>") for task in ("transcribe", "translate")
        }
    return made


def _token(tokenizer: Tokenizer, text: str) -> int:
    found = tokenizer.token_to_id(text)
    if found is None:
        raise Refused(f"the tokenizer has no {text}, as Whisper's has")
    return int(found)
