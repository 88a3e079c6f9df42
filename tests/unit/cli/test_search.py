"""`nsedge search`: the index follows its folder, and tells the nearest first."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nsedge.__main__ import main
from nsedge.api import Embed, Media
from nsedge.cli.exits import ExitStatus
from nsedge.cli.picture_index import PictureIndex, Stamp, stamp_of
from tests.fake_answers import vector
from tests.fakes import MODEL, FakeService

PNG = b"\x89PNG"


@pytest.fixture
def daemon(daemon: FakeService, home: Path, monkeypatch: pytest.MonkeyPatch) -> FakeService:
    monkeypatch.setenv("NSEDGE_HOME", str(home / "home"))
    return daemon


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    there = tmp_path / "pictures"
    (there / "more").mkdir(parents=True)
    for name in ("a.png", "b.PNG", "more/c.png"):
        (there / name).write_bytes(PNG + name.encode())
    (there / "notes.txt").write_text("no picture")
    (there / ".hidden.png").write_bytes(PNG)
    return there


def seen(service: FakeService) -> list[bytes]:
    """The pictures that the service was sent, and forgets them."""
    tasks = [request.task for request in service.requests]
    service.requests.clear()
    inputs = [one for task in tasks if isinstance(task, Embed) for one in task.inputs]
    return [one.data for one in inputs if isinstance(one, Media)]


def search(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> list[Any]:
    assert main(["search", "--json", "--model", MODEL, *words]) == status
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def cosine(words: str, data: bytes) -> float:
    a, b = (
        np.frombuffer(vector(one), "<f4") for one in (words, Media(type="image/png", data=data))
    )
    return float(a @ b)


def test_the_nearest_come_first(
    daemon: FakeService, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = search(capsys, str(folder), "two", "boats")
    wanted = {
        str(folder / name): cosine("two boats", PNG + name.encode())
        for name in ("a.png", "b.PNG", "more/c.png")
    }
    assert {one["path"] for one in found} == set(wanted)
    assert [one["path"] for one in found] == sorted(wanted, key=lambda path: -wanted[path])
    for one in found:
        assert one["cosine"] == pytest.approx(wanted[one["path"]], abs=1e-5)
    assert search(capsys, str(folder), "--top", "1", "two boats") == found[:1]
    liked = search(capsys, str(folder), "--like", str(folder / "a.png"), "--top", "1")
    assert (liked[0]["path"], round(liked[0]["cosine"], 4)) == (str(folder / "a.png"), 1.0)


def test_the_index_follows_the_folder(
    daemon: FakeService, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search(capsys, str(folder), "x")
    assert len(seen(daemon)) == 3
    search(capsys, str(folder), "x")
    assert seen(daemon) == []

    (folder / "a.png").unlink()
    (folder / "b.PNG").write_bytes(PNG + b"another")
    (folder / "d.png").write_bytes(PNG + b"new")
    assert main(["search", "--model", MODEL, str(folder), "x"]) == 0
    said = capsys.readouterr()
    assert said.err == "3 pictures: 1 new, 1 changed, 1 removed\n"
    assert sorted(seen(daemon)) == [PNG + b"another", PNG + b"new"]
    paths = {line.split("  ")[1] for line in said.out.splitlines()}
    assert paths == {str(folder / name) for name in ("b.PNG", "d.png", "more/c.png")}


def test_what_is_no_picture_is_told_and_left_out(
    daemon: FakeService, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.png").write_bytes(b"text")
    assert main(["search", "--model", MODEL, str(folder), "x"]) == 0
    said = capsys.readouterr()
    assert "left out: broken.png: " in said.err
    assert "broken" not in said.out
    seen(daemon)
    search(capsys, str(folder), "x")
    assert seen(daemon) == []


def test_another_model_has_an_index_of_its_own(tmp_path: Path, folder: Path) -> None:
    one = PictureIndex.open(folder, tmp_path, model="one", dimensions=2)
    one.keep("a.png", stamp_of(folder / "a.png"), np.array([0.6, 0.8], np.float32))
    one.keep_out("b.PNG", Stamp(1, 2), "damaged")
    one.write()
    again = PictureIndex.open(folder, tmp_path, model="one", dimensions=2)
    assert again.nearest(np.array([1.0, 0.0], np.float32), 5) == [("a.png", pytest.approx(0.6))]
    assert again.broken() == {"b.PNG": "damaged"}
    changes = again.changes()
    assert (changes.new, changes.changed, changes.removed) == (("more/c.png",), ("b.PNG",), ())
    assert len(PictureIndex.open(folder, tmp_path, model="two", dimensions=2)) == 0
    assert len(PictureIndex.open(folder, tmp_path, model="one", dimensions=3)) == 0


def test_a_damaged_index_is_made_anew(tmp_path: Path, folder: Path) -> None:
    index = PictureIndex.open(folder, tmp_path, model="one", dimensions=2)
    index.keep("a.png", Stamp(1, 2), np.array([0.6, 0.8], np.float32))
    index.write()
    whole = index.place.read_bytes()
    for content in (b"", whole[:-1], whole[: len(whole) // 2], b"\xff" * 40):
        index.place.write_bytes(content)
        assert len(PictureIndex.open(folder, tmp_path, model="one", dimensions=2)) == 0


def test_an_index_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, folder: Path) -> None:
    index = PictureIndex.open(folder, tmp_path / "state", model="one", dimensions=2)
    index.keep("a.png", Stamp(1, 2), np.array([0.6, 0.8], np.float32))
    index.write()
    before = index.place.read_bytes()
    index.place.with_suffix(".part").mkdir()
    index.forget("a.png")
    with pytest.raises(OSError, match=os.strerror(21)):
        index.write()
    assert index.place.read_bytes() == before


def test_a_full_disk_costs_the_index_and_not_the_answer(
    daemon: FakeService, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = search(capsys, str(folder), "x")
    (index,) = (tmp_path / "home" / "state" / "search").iterdir()
    before = index.read_bytes()
    (folder / "d.png").write_bytes(PNG + b"new")
    index.with_suffix(".part").symlink_to("/dev/full")
    assert main(["search", "--json", "--model", MODEL, str(folder), "x"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == len(wanted) + 1
    assert said.err.splitlines() == [
        "the index is not kept: No space left on device",
        "4 pictures: 1 new, 0 changed, 0 removed",
    ]
    assert index.read_bytes() == before
    seen(daemon)
    search(capsys, str(folder), "x")
    assert seen(daemon) == [PNG + b"new"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere", "x"), "nowhere is no folder"),
        ((".",), "nothing to search for: give some words, or --like FILE"),
        ((".", "x", "--like", "y"), "search by words or by --like FILE, not both"),
        ((".", "x", "--top", "0"), "--top must be at least 1, not 0"),
    ],
)
def test_what_cannot_be_searched_for_is_told(
    daemon: FakeService, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", *words]) == ExitStatus.USAGE
    assert capsys.readouterr().err == f"nsedge: {told}\n"


def test_without_a_model_of_pictures_it_says_so(
    daemon: FakeService, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(folder), "x"]) == ExitStatus.FAILURE
    assert "no model of texts and pictures is served" in capsys.readouterr().err
