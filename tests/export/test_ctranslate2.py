"""Whisper models as CTranslate2 writes them, turned back: weights, sizes and tokens stay."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from exporters.errors import ExportError, Refused
from exporters.model.ctranslate2 import is_ctranslate2, read_weights, write_whisper
from exporters.model.source import Source
from exporters.model.speech import read_alignment_heads, read_speech_shape, read_tokens
from tests.export.tiny_whisper import HEADS, tokenizer, write_whisper_folder

pytestmark = pytest.mark.export

TYPES = ("float32", "int8", "int16", "int32", "float16")
Arrays = dict[str, NDArray[Any]]


def text(words: str) -> bytes:
    return struct.pack("<H", len(words) + 1) + words.encode() + b"\0"


def model_bin(arrays: Arrays, *, spec: str = "WhisperSpec", version: int = 6) -> bytes:
    """A file as CTranslate2's converters write it."""
    made = struct.pack("<I", version) + text(spec) + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        made += (
            text(name)
            + struct.pack("<B", array.ndim)
            + struct.pack(f"<{array.ndim}I", *array.shape)
        )
        made += struct.pack("<BI", TYPES.index(array.dtype.name), array.nbytes) + array.tobytes()
    aliases = {"decoder/projection/weight": "decoder/embeddings/weight"}
    made += struct.pack("<I", len(aliases))
    return made + b"".join(text(alias) + text(name) for alias, name in aliases.items())


def arrays_of(weights: Arrays) -> Arrays:
    """The weights of transformers by CTranslate2's names, joint projections joined."""

    def bias(name: str) -> NDArray[Any]:
        zeros = np.zeros(len(weights[f"{name}.weight"]), np.float32)
        return weights.get(f"{name}.bias", zeros)

    def joint(*names: str) -> tuple[NDArray[Any], NDArray[Any]]:
        return (
            np.concatenate([weights[f"{name}.weight"] for name in names]),
            np.concatenate([bias(name) for name in names]),
        )

    made: Arrays = {
        "encoder/num_heads": np.array(HEADS, np.int16),
        "decoder/embeddings/weight": weights["model.decoder.embed_tokens.weight"],
    }
    linear: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    norms = {}
    for conv in ("conv1", "conv2"):
        linear[f"encoder/{conv}"] = joint(f"model.encoder.{conv}")
    for side in ("encoder", "decoder"):
        places = weights[f"model.{side}.embed_positions.weight"]
        made[f"{side}/position_encodings/encodings"] = places
        norms[f"{side}/layer_norm"] = f"model.{side}.layer_norm"
        layers = len(
            {name.split(".")[3] for name in weights if name.startswith(f"model.{side}.layers")}
        )
        for layer in range(layers):
            of, to = f"model.{side}.layers.{layer}", f"{side}/layer_{layer}"
            own = [f"{of}.self_attn.{part}_proj" for part in ("q", "k", "v", "out")]
            norms[f"{to}/self_attention/layer_norm"] = f"{of}.self_attn_layer_norm"
            linear[f"{to}/self_attention/linear_0"] = joint(*own[:3])
            linear[f"{to}/self_attention/linear_1"] = joint(own[3])
            if side == "decoder":
                other = [f"{of}.encoder_attn.{part}_proj" for part in ("q", "k", "v", "out")]
                norms[f"{to}/attention/layer_norm"] = f"{of}.encoder_attn_layer_norm"
                linear[f"{to}/attention/linear_0"] = joint(other[0])
                linear[f"{to}/attention/linear_1"] = joint(*other[1:3])
                linear[f"{to}/attention/linear_2"] = joint(other[3])
            norms[f"{to}/ffn/layer_norm"] = f"{of}.final_layer_norm"
            linear[f"{to}/ffn/linear_0"] = joint(f"{of}.fc1")
            linear[f"{to}/ffn/linear_1"] = joint(f"{of}.fc2")
    for name, (weight, shift) in linear.items():
        made |= {f"{name}/weight": weight, f"{name}/bias": shift}
    for name, of in norms.items():
        made |= {f"{name}/gamma": weights[f"{of}.weight"], f"{name}/beta": weights[f"{of}.bias"]}
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper_folder(tmp_path_factory.mktemp("models") / "tiny", frames=60)


def write_ctranslate2(folder: Path, arrays: Arrays, **how: Any) -> Path:
    folder.mkdir()
    known = tokenizer()
    (folder / "model.bin").write_bytes(model_bin(arrays, **how))
    known.save(str(folder / "tokenizer.json"))
    languages = [known.token_to_id(f"<|{code}|>") for code in ("en", "de", "haw")]
    told = {
        "suppress_ids": [1, 2],
        "suppress_ids_begin": [220, known.token_to_id("<|endoftext|>")],
        "lang_ids": languages,
        "alignment_heads": [[1, 0], [2, 3]],
    }
    (folder / "config.json").write_text(json.dumps(told))
    return folder


def test_a_model_comes_back_as_it_was(folder: Path, tmp_path: Path) -> None:
    wanted = load_file(folder / "model.safetensors")
    made = write_ctranslate2(tmp_path / "ct2", arrays_of(wanted))
    assert is_ctranslate2(made)
    assert not is_ctranslate2(folder)
    out = tmp_path / "out"
    out.mkdir()
    write_whisper(made, out)
    found = load_file(out / "model.safetensors")
    assert found.keys() == wanted.keys() - {"proj_out.weight"}
    assert all(np.array_equal(found[name], wanted[name]) for name in found)
    source = Source(folder=out, origin="ct2")
    shape = read_speech_shape(source)
    assert shape == read_speech_shape(Source(folder=folder, origin="tiny"))
    tokens = read_tokens(source, shape)
    assert tokens.suppressed == (1, 2)
    assert tokens.languages == {}  # too few rows for a model of many languages
    assert read_alignment_heads(source, shape) == ((1, 0), (2, 3))


def test_matrices_of_int8_and_float16_are_read(folder: Path, tmp_path: Path) -> None:
    wanted = load_file(folder / "model.safetensors")
    arrays = arrays_of(wanted)
    name = "decoder/layer_0/ffn/linear_0/weight"
    scales = (127 / np.abs(arrays[name]).max(1)).astype(np.float32)
    arrays[f"{name}_scale"] = scales
    arrays[name] = np.rint(arrays[name] * scales[:, None]).astype(np.int8)
    half = "encoder/layer_0/ffn/linear_0/weight"
    arrays[half] = arrays[half].astype(np.float16)
    (out := tmp_path / "out").mkdir()
    write_whisper(write_ctranslate2(tmp_path / "ct2", arrays), out)
    found = load_file(out / "model.safetensors")
    for weight, step in (
        ("model.decoder.layers.0.fc1.weight", 0.006),
        ("model.encoder.layers.0.fc1.weight", 0.001),
    ):
        assert found[weight].dtype == np.float32
        assert 0 < np.abs(found[weight] - wanted[weight]).max() < step


def test_what_is_none_is_refused(folder: Path, tmp_path: Path) -> None:
    arrays = arrays_of(load_file(folder / "model.safetensors"))
    (out := tmp_path / "out").mkdir()
    with pytest.raises(Refused, match="Whisper is exported, not 'TransformerSpec'"):
        write_whisper(write_ctranslate2(tmp_path / "a", arrays, spec="TransformerSpec"), out)
    with pytest.raises(ExportError, match="binary version 2; known are"):
        write_whisper(write_ctranslate2(tmp_path / "b", arrays, version=2), out)
    less = {name: array for name, array in arrays.items() if "conv2" not in name}
    with pytest.raises(ExportError, match="no array 'encoder/conv2/weight'"):
        write_whisper(write_ctranslate2(tmp_path / "c", less), out)
    short = tmp_path / "d"
    short.mkdir()
    (short / "model.bin").write_bytes(model_bin(arrays)[:-2000])
    with pytest.raises(ExportError, match="cut short"):
        read_weights(short / "model.bin")
    keyed = dict(arrays)
    keyed["decoder/layer_0/attention/linear_1/bias"] = np.ones_like(
        arrays["decoder/layer_0/attention/linear_1/bias"]
    )
    with pytest.raises(Refused, match="keys have a bias"):
        write_whisper(write_ctranslate2(tmp_path / "e", keyed), out)
