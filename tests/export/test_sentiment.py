"""A sentiment head is trained on rated texts, and its folder is one that is exported."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import pipeline

from exporters.errors import ExportError
from exporters.meaning.sentiment import LABELS, Course, Rated, read_texts, train
from exporters.model.encoder import is_encoder, read_shape
from exporters.model.source import Source
from nsedge.api import Activation
from nsedge.bundle.headed import SequenceClassification
from tests.export.tiny_heads import write_head_folder

pytestmark = pytest.mark.export


def test_a_head_learns_what_it_is_shown(tmp_path: Path) -> None:
    base = write_head_folder(tmp_path / "base", "bert", "MaskedLM")
    texts = [Rated("marta lives in town", True), Rated("acme works for the harbour", False)] * 20
    course = Course(trained=40, asked=0, steps=300, demanded=1.0)
    (tmp_path / "out").mkdir()
    train(base, texts, course, tmp_path / "out")
    source = Source(folder=tmp_path / "out", origin="x")
    assert is_encoder(source)
    wanted = SequenceClassification(labels=LABELS, activation=Activation.SOFTMAX)
    assert read_shape(source).head == wanted
    judge = pipeline("text-classification", model=str(tmp_path / "out"))
    found = judge([one.text for one in texts[:2]])
    assert [one["label"] for one in found] == ["positive", "negative"]


def test_another_archive_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.tar.gz"
    other.write_bytes(b"x")
    with pytest.raises(ExportError, match="is not the source archive of vaderSentiment"):
        read_texts(other)
