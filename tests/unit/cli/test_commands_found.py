"""Commands that tell what models find in texts, and those that show pictures and recordings."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from nsedge.__main__ import main
from nsedge.api import Delta, MediaRead
from nsedge.cli.exits import ExitStatus
from tests.fake_answers import DIMENSIONS, MASK, vector
from tests.fakes import MODEL
from tests.unit.cli.said import objects

pytestmark = pytest.mark.usefixtures("home")


def test_embed_gives_a_line_of_numbers_for_each_text(daemon, capsys, monkeypatch, tmp_path):
    assert main(["embed", MODEL, "one", "two words"]) == 0
    said = capsys.readouterr()
    wanted = [np.frombuffer(vector(text), "<f4").tolist() for text in ("one", "two words")]
    assert [json.loads(line) for line in said.out.splitlines()] == wanted
    assert said.err.startswith(f"2 x {DIMENSIONS} numbers of ")
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo words\n"))
    out = tmp_path / "vectors.npy"
    assert main(["embed", MODEL, "--quiet", "--out", str(out), "--dimensions", "2"]) == 0
    assert capsys.readouterr() == ("", "")
    assert np.load(out).tolist() == [
        np.frombuffer(vector(text, 2), "<f4").tolist() for text in ("one", "two words")
    ]
    assert main(["embed", "--json", MODEL, "one"]) == 0
    assert objects(capsys.readouterr().out) == [{"index": 0, "embedding": wanted[0]}]


def test_embed_tells_what_it_cannot(daemon, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert main(["embed", MODEL]) == ExitStatus.USAGE
    assert main(["embed", MODEL, "a", "--out", str(tmp_path / "no" / "file")]) == ExitStatus.FAILURE
    assert main(["embed", MODEL, "a", "--dimensions", "0"]) == ExitStatus.USAGE
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "standard input holds no text" in lines[0]
    assert "No such file" in lines[1]
    assert "dimensions must be at least 1" in lines[2]


def test_classify_gives_a_line_of_labels_for_each_text(daemon, capsys, monkeypatch):
    assert main(["classify", MODEL, "one", "two"]) == 0
    said = capsys.readouterr()
    assert said.out == "long 0.7500\tshort 0.2500\n" * 2
    assert said.err.startswith("2 texts of ")
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n"))
    assert main(["classify", MODEL, "--json", "--top-k", "1", "--activation", "softmax"]) == 0
    (told,) = objects(capsys.readouterr().out)
    assert told == {"index": 0, "labels": [{"label": "long", "score": 0.75}]}
    with pytest.raises(SystemExit, match="2"):
        main(["classify", MODEL, "x", "--aggregation", "some"])
    assert "is none of none, simple, first, average, max" in capsys.readouterr().err


def test_classify_gives_a_line_for_each_span(daemon, capsys):
    assert main(["classify", MODEL, "Marta", "--aggregation", "first", "--quiet"]) == 0
    assert capsys.readouterr() == ("0\t0-5\tPER\t0.7500\tMarta\n", "")


def test_rerank_puts_the_best_first(daemon, capsys):
    assert main(["rerank", MODEL, "which?", "a", "ccc", "bb", "--top", "2"]) == 0
    said = capsys.readouterr()
    assert said.out == "3.0000\tccc\n2.0000\tbb\n"
    assert said.err.startswith("3 documents of ")
    assert main(["rerank", MODEL, "which?", "a", "--json"]) == 0
    assert objects(capsys.readouterr().out) == [{"index": 0, "score": 1.0, "document": "a"}]


def test_fill_gives_a_line_for_each_mask(daemon, capsys):
    assert main(["fill", MODEL, f"a {MASK} and {MASK}", "--top-k", "2", "--quiet"]) == 0
    assert capsys.readouterr().out == "t0 0.5000\tt1 0.5000\n" * 2
    assert main(["fill", MODEL, f"a {MASK}", "--top-k", "1", "--json"]) == 0
    (told,) = objects(capsys.readouterr().out)
    assert told == {"index": 0, "masks": [[{"token_id": 0, "token": " t0", "score": 0.5}]]}


@pytest.fixture
def shown(tmp_path):
    picture, sound = tmp_path / "quay.png", tmp_path / "said.wav"
    picture.write_bytes(b"\x89PNG\r\n")
    sound.write_bytes(b"RIFF")
    return str(picture), str(sound)


def test_run_shows_pictures_and_recordings_in_their_order(daemon, shown, capsys):
    picture, sound = shown
    read = MediaRead(
        request_id="x", place=sound, media_type="audio/unknown", task="transcribe", model="ears",
        text="so it is", took_s=0.5,
    )  # fmt: skip
    asked = "Well? audio/unknown=4 image/png=6"
    daemon.shows[asked] = (
        read,
        Delta(request_id="x", seq=0, text="Yes.", token_ids=(1,)),
    )
    assert main(["run", MODEL, "--audio", sound, "--image", picture, "Well?"]) == 0
    said = capsys.readouterr()
    assert said.out == "Yes.\n"
    assert said.err.startswith(f"{sound}: so it is (ears)\n")
    (message,) = daemon.requests[-1].task.messages
    assert [one.place for one in message.content[:2]] == [sound, picture]
    assert main(["run", "--quiet", MODEL, "--audio", sound, "--image", picture, "Well?"]) == 0
    assert capsys.readouterr().err == ""


def test_chat_shows_them_with_the_first_question(daemon, shown, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n/reset\nthree\n"))
    assert main(["chat", MODEL, "--image", shown[0], "--system", "s"]) == 0
    counts = [
        [len(message.media) for message in request.task.messages] for request in daemon.requests
    ]
    assert counts == [[0, 1], [0, 1, 0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--image", "none.png"], "nsedge: none.png: No such file or directory\n"),
        (["--audio", "none.wav"], "nsedge: none.wav: No such file or directory\n"),
        (["--image", "empty"], "nsedge: empty is no PNG, JPEG, GIF, WebP or BMP\n"),
        (["--audio", "empty"], "nsedge: empty is empty\n"),
        (["--video", "empty"], "nsedge: empty is no MP4, MOV, WebM, GIF or WebP\n"),
        (["--frames", "3"], "nsedge: --frames is of films: name one by --video\n"),
        (["--raw", "--audio", "empty"], "nsedge: --image, --audio and --video need the chat"),
    ],
)
def test_what_cannot_be_shown_is_told(daemon, tmp_path, monkeypatch, capsys, flags, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_bytes(b"")
    assert main(["run", MODEL, *flags, "x"]) != 0
    assert capsys.readouterr().err.startswith(told)
    assert not daemon.requests
