"""Texts with a gap, other files before them, and what each token adds to a text."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import AddedToken

from nsedge.api import ExtraFile, Generate
from nsedge.bundle.manifest import Bundle
from nsedge.errors import InvalidParameter
from nsedge.runtime.text.prompt import PromptReader
from tests.unit.bundles import edit_manifest, tokenizer, write_bundle
from tests.unit.runtime.text.test_prompt import reader

FILL = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


def test_a_gap_is_asked_for_by_the_models_own_tokens(tmp_path: Path) -> None:
    made = tokenizer()
    made.add_special_tokens([AddedToken(text, special=True) for text in FILL])
    bundle = Bundle.open(write_bundle(tmp_path / "tiny"))
    ids = PromptReader(bundle, made).read(Generate(text="a<|end|>", suffix="b<|fim_middle|>"))
    prefix, suffix, middle = map(made.token_to_id, FILL)
    assert (ids[0], ids[-1], ids.count(suffix), ids.count(middle)) == (prefix, middle, 1, 1)
    assert made.token_to_id("<|end|>") not in ids
    assert made.decode(list(ids), skip_special_tokens=False) == (
        "<|fim_prefix|>a<|end|><|fim_suffix|>b<|fim_middle|><|fim_middle|>"
    )


def test_a_model_without_such_tokens_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="not trained to fill a gap") as caught:
        reader(tmp_path).read(Generate(text="a", suffix=""))
    assert caught.value.param == "suffix"


FILES = (ExtraFile(name="x.py", text="x<|end|>"), ExtraFile(name="y", text="y"))


@pytest.mark.parametrize(
    ("marks", "wanted"),
    [
        (
            ("<|repo_name|>", "<|file_sep|>"),
            "<|repo_name|>myproject\n<|file_sep|>x.py\nx<|end|><|file_sep|>y\ny<|file_sep|>filename\n",
        ),
        (("<|file_sep|>",), "<|file_sep|>x.py\nx<|end|><|file_sep|>y\ny<|file_sep|>filename\n"),
        ((), "\n\n--- snippet ---\n\nx<|end|>\n\n--- snippet ---\n\ny"),
    ],
)
def test_other_files_come_before_a_gap(tmp_path: Path, marks: tuple[str, ...], wanted: str) -> None:
    made = tokenizer()
    made.add_special_tokens([AddedToken(mark, special=True) for mark in (*FILL, *marks)])
    bundle = write_bundle(tmp_path / "tiny")
    edit_manifest(bundle, vocab_size=made.get_vocab_size())
    read = PromptReader(Bundle.open(bundle), made)
    gap = "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"
    ids = read.read(Generate(text="a", suffix="b", extra_files=FILES))
    assert made.decode(list(ids), skip_special_tokens=False) == wanted + gap
    assert made.token_to_id("<|end|>") not in ids, "names in files are text"
    plain = read.read(Generate(text="a", suffix="b"))
    assert made.decode(list(plain), skip_special_tokens=False) == gap


def test_other_files_stand_beside_a_gap_only() -> None:
    with pytest.raises(InvalidParameter) as caught:
        Generate(text="a", extra_files=FILES).check()
    assert caught.value.param == "extra_files"


def test_pieces_are_the_bytes_of_each_token(tmp_path: Path) -> None:
    read = reader(tmp_path)
    ids = read.read(Generate(text="<|user|>hé"))
    pieces = read.pieces(ids)
    assert len(pieces) == len(ids)
    assert (pieces[0], b"".join(pieces)) == (b"<|user|>", "<|user|>hé".encode())


def test_the_text_of_a_gap_ends_where_another_file_begins(tmp_path: Path) -> None:
    made = tokenizer()
    ends = ["<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"]
    made.add_special_tokens([AddedToken(text, special=True) for text in (*FILL, *ends)])
    bundle = write_bundle(tmp_path / "tiny")
    edit_manifest(bundle, vocab_size=made.get_vocab_size())
    read = PromptReader(Bundle.open(bundle), made)
    assert read.ends(Generate(text="a", suffix="")) == tuple(map(made.token_to_id, ends))
    assert read.ends(Generate(text="a")) == ()
    assert reader(tmp_path / "other").ends(Generate(text="a", suffix="")) == ()
