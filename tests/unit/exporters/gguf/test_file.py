"""A GGUF file that lies, or is cut short, ends in one clear line and costs next to no memory."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.__main__ import main
from exporters.errors import ExportError, Refused
from exporters.gguf.file import LARGEST, MAX_HEADER, GgufFile, Metadata
from exporters.gguf.folder import write_model_folder
from exporters.gguf.graph import make_reference
from exporters.gguf.model import shape_of
from tests.unit.exporters.gguf.test_import import weights, write_gguf

U32, STRING, ARRAY, U64 = 4, 8, 9, 10
SMALL = 32 << 20
HUGE = (1 << 63) + 5


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def header(tensors: int = 0, keys: int = 0, *, magic: bytes = b"GGUF", version: int = 3) -> bytes:
    return struct.pack("<4sIQQ", magic, version, tensors, keys)


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def tensor(
    name: bytes = b"t", *, shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0
) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + sizes + struct.pack("<IQ", kind, offset)


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "cut short or no GGUF"),
    "another magic": (header(magic=b"GGML"), "is no GGUF file"),
    "version 1": (header(version=1), "GGUF of version 1; 2 and 3"),
    "the other byte order": (b"GGUF\0\0\0\3" + b"\0" * 16, "GGUF of version 50331648"),
    "nothing but a magic": (b"GGUF", "cut short"),
    "as many keys as can be": (header(keys=HUGE), "cut short"),
    "as many tensors as can be": (header(tensors=HUGE), "cut short"),
    "a huge text": (header(keys=1) + struct.pack("<Q", HUGE) + b"x", "cut short"),
    "a huge array": (header(keys=1) + key(b"k", ARRAY, struct.pack("<IQ", U32, HUGE)), "cut short"),
    "a huge array of texts": (
        header(keys=1) + key(b"k", ARRAY, struct.pack("<IQ", STRING, HUGE)),
        "cut short",
    ),
    "an array of arrays": (
        header(keys=1) + key(b"k", ARRAY, struct.pack("<IQ", ARRAY, 1)),
        "a value of type 9",
    ),
    "a type that is not there": (header(keys=1) + key(b"k", 99, b"\0" * 8), "a value of type 99"),
    "a text that is none": (header(keys=1) + key(b"\xff\xfe", U32, b"\0" * 4), "no UTF-8"),
    "a key twice": (header(keys=2) + key(b"k", U32, b"\0" * 4) * 2, "'k' stands there twice"),
    "no alignment": (
        header(keys=1) + key(b"general.alignment", U32, struct.pack("<I", 0)),
        "general.alignment is 0",
    ),
    "an odd alignment": (
        header(keys=1) + key(b"general.alignment", U32, struct.pack("<I", 33)),
        "an alignment of 33",
    ),
    "too many axes": (header(tensors=1) + tensor(shape=(1,) * 9), "'t' has 9 axes"),
    "an axis of 0": (header(tensors=1) + tensor(shape=(0, 4)), r"'t' is \[4, 0\]"),
    "half a block": (header(tensors=1) + tensor(shape=(33,), kind=8), "which Q8_0 cannot be"),
    "a type unknown": (header(tensors=1) + tensor(kind=77), "of type 77, which is not known"),
    "a type not read": (header(tensors=1) + tensor(shape=(256,), kind=19), "'t' is IQ1_S"),
    "beyond the end": (header(tensors=1) + tensor(offset=1 << 20), "lies beyond the file's end"),
    "larger than all": (header(tensors=1) + tensor(shape=(1 << 40, 1 << 40)), "beyond the file"),
    "an offset that wraps": (header(tensors=1) + tensor(offset=HUGE), "beyond the file's end"),
    "a tensor twice": (header(tensors=2) + tensor() * 2 + b"\0" * 256, "two tensors of one name"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    content, message = BROKEN[name]
    (tmp_path / "broken.gguf").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ExportError, match=message) as caught:
            GgufFile(tmp_path / "broken.gguf")
        assert tracemalloc.get_traced_memory()[1] < SMALL
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_names_from_the_file_are_escaped_and_cut(tmp_path: Path) -> None:
    content = header(tensors=1) + tensor(b"\x1b[31m" + b"a" * 500, kind=77)
    (tmp_path / "odd.gguf").write_bytes(content)
    with pytest.raises(Refused) as caught:
        GgufFile(tmp_path / "odd.gguf")
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_header_may_be_no_longer_than_stated(tmp_path: Path) -> None:
    path = tmp_path / "long.gguf"
    with path.open("wb") as file:
        file.write(header(keys=1) + struct.pack("<Q", MAX_HEADER))
        file.truncate(2 * MAX_HEADER)  # a hole: no room is taken
    with pytest.raises(ExportError, match="header is longer than 128 MiB"):
        GgufFile(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "tiny.gguf"
    write_gguf(path, weights())
    return path.read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


def read_all(path: Path, content: bytes, out: Path) -> None:
    path.write_bytes(content)
    write_model_folder(path, out)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_cut_anywhere_it_is_an_error_that_is_told(
    whole: bytes, scratch: Path, data: st.DataObject
) -> None:
    end = data.draw(st.integers(0, len(whole) - 64))
    with pytest.raises(ExportError):
        read_all(scratch / "cut.gguf", whole[:end], scratch)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_altered_anywhere_it_is_read_or_an_error_that_is_told(
    whole: bytes, scratch: Path, data: st.DataObject
) -> None:
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(whole), 12000) - 1))
        content[at] = data.draw(st.integers(0, 255))
    (scratch / "config.json").unlink(missing_ok=True)
    try:
        read_all(scratch / "altered.gguf", bytes(content), scratch)
    except ExportError:
        return
    assert (scratch / "config.json").is_file()


def test_infinite_weights_are_refused(tmp_path: Path) -> None:
    tensors = weights()
    tensors["blk.0.attn_v"][3, 5] = np.inf
    write_gguf(tmp_path / "odd.gguf", tensors)
    with pytest.raises(ExportError, match=r"'blk\.0\.attn_v\.weight' holds what is no finite"):
        write_model_folder(tmp_path / "odd.gguf", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_embd": None}, "token_embd.weight is missing"),
        ({"blk.0.ffn_down": None}, r"blk\.0\.ffn_down\.weight is missing"),
        ({"blk.0.attn_k": (64, 64)}, r"attn_k\.weight is \[64, 64\], not \[32, 64\]"),
        ({"output_norm": (63,)}, r"output_norm\.weight is \[63\], not \[64\]"),
        ({"rope_freqs": (3,)}, "'rope_freqs.weight', which no llama has"),
        ({"blk.0.ffn_gate_exps": (4, 64)}, "ffn_gate_exps"),
    ],
)
def test_tensors_are_held_to_the_sizes(
    tmp_path: Path, change: dict[str, tuple[int, ...] | None], message: str
) -> None:
    tensors = weights()
    for name, shape in change.items():
        tensors.pop(name, None)
        if shape is not None:
            tensors[name] = np.ones(shape, np.float32)
    write_gguf(tmp_path / "odd.gguf", tensors)
    with pytest.raises(ExportError, match=message):
        shape_of(GgufFile(tmp_path / "odd.gguf"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"general.architecture": "gemma3"}, "architecture 'gemma3'; what can be imported is"),
        ({"general.architecture": None}, "general.architecture is missing"),
        ({"general.architecture": 3}, "general.architecture is no text"),
        (
            {"llama.block_count": 1 << 60},
            "block_count is 1152921504606846976, which no 32 bits hold",
        ),
        ({"llama.block_count": 1 << 31}, r"blk\.1\.attn_norm\.weight is missing"),
        ({"llama.block_count": 0}, "llama.block_count is 0"),
        ({"llama.attention.head_count": [4, 4]}, "head_count is no whole number"),
        ({"llama.attention.head_count_kv": 3}, "4 heads over 3"),
        ({"llama.attention.key_length": 24}, "head size 24 is no multiple of 16"),
        ({"llama.rope.dimension_count": 8}, "rope.dimension_count is not the head size, 16"),
        ({"llama.rope.scaling.type": "yarn"}, "rotary scaling 'yarn'"),
        ({"llama.expert_count": 8}, "a mixture of experts"),
        ({"llama.rope.freq_base": float("nan")}, "freq_base is no number above zero"),
        ({"llama.rope.freq_base": 1e300}, "freq_base is no number above zero"),
        ({"llama.rope.freq_base": 1e-45}, "freq_base is no number above zero"),
    ],
)
def test_models_of_other_kinds_are_refused_by_name(
    whole: bytes, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    (tmp_path / "tiny.gguf").write_bytes(whole)
    file = GgufFile(tmp_path / "tiny.gguf")
    values = dict(file.metadata._values)
    values.update(change)
    file.metadata = Metadata(values, "tiny.gguf")
    with pytest.raises(ExportError, match=message):
        shape_of(file)


def test_angles_that_no_number_holds_are_told(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(whole)
    file = GgufFile(tmp_path / "tiny.gguf")
    values = file.metadata._values | {"llama.rope.freq_base": 1.5e-38}
    file.metadata = Metadata(values | {"llama.rope.scaling.factor": 1.5e-38}, "tiny.gguf")
    with pytest.raises(ExportError, match="rotary embedding's base and factors give no angles"):
        make_reference(file, tmp_path, max_context=64)


def test_a_window_that_holds_every_token_is_none(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(whole)
    file = GgufFile(tmp_path / "tiny.gguf")
    for window, followed in ((128, None), (LARGEST, None), (127, 127)):
        values = file.metadata._values | {"llama.attention.sliding_window": window}
        file.metadata = Metadata(values, "tiny.gguf")
        assert shape_of(file).window == followed


@pytest.mark.parametrize("kept", [0, 20, 5000, -100])
def test_the_command_says_so_in_a_line_and_leaves_no_bundle(
    whole: bytes,
    tmp_path: Path,
    kept: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NSEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NSEDGE_HOME", str(tmp_path / "home"))
    (tmp_path / "cut.gguf").write_bytes(whole[:kept])
    assert main(["import-gguf", str(tmp_path / "cut.gguf")]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("nsedge-export: ")
    assert "cut short" in told[0]
    assert not (tmp_path / "home").exists()


def test_a_file_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import-gguf", str(tmp_path / "none.gguf")]) == 1
    assert "there is no such file" in capsys.readouterr().err
