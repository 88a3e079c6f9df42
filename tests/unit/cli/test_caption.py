"""`nsedge caption` against the fake service behind a real door."""

from __future__ import annotations

import io
import json
import types

import pytest

from nsedge.__main__ import main
from nsedge.api import Caption, Constraint, Media, Sampling
from nsedge.cli.exits import ExitStatus
from tests.fake_daemon import fake_daemon
from tests.fakes import FakeService

PNG = b"\x89PNG a red circle"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "quay.png"
    path.write_bytes(PNG)
    return str(path)


def test_a_line_a_picture(daemon, picture, capsys):
    assert main(["caption", picture]) == 0
    assert capsys.readouterr().out.endswith("PNG a red circle\n")
    (asked,) = daemon.requests
    assert asked.task == Caption(media=Media(type="image/png", data=PNG))


def test_several_are_told_apart_and_one_that_is_none_fails_alone(daemon, picture, tmp_path, capsys):
    other, missing = tmp_path / "notes.txt", tmp_path / "gone.png"
    other.write_bytes(b"no picture")
    files = [picture, str(other), str(missing), picture]
    assert main(["caption", *files]) == ExitStatus.FAILURE
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{picture}: ") for line in lines)
    assert f"{other} is no PNG, JPEG, GIF, WebP or BMP" in said.err
    assert f"{missing}: No such file" in said.err


def test_what_is_asked_for_reaches_the_daemon(daemon, picture, capsys):
    flags = ["--prompt", "It is", "--max-tokens", "5", "--beams", "3", "--json"]
    assert main(["caption", *flags, picture]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["file"], told["usage"]["images"]) == (picture, 1)
    assert told["caption"].endswith("PNG a red circle")
    (asked,) = daemon.requests
    assert asked.task.prompt == "It is"
    assert asked.task.sampling == Sampling(max_tokens=5, beams=3)


def test_a_caption_is_held_to_a_form(daemon, picture):
    assert main(["caption", "--regex", "[ab]", picture]) == 0
    assert daemon.requests[0].task.constraint == Constraint.regex("[ab]")


def test_standard_input_is_a_picture(daemon, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(PNG)))
    assert main(["caption", "-"]) == 0
    assert "red circle" in capsys.readouterr().out


@pytest.mark.parametrize("tasks", [("chat",), ("caption",)])
def test_without_a_captioner_it_says_how_to_get_one(home, picture, capsys, tasks):
    with fake_daemon(home, FakeService(tasks=tasks)):
        status = main(["caption", picture])
    told = capsys.readouterr().err
    if "caption" in tasks:
        assert status == 0
    else:
        assert status == ExitStatus.FAILURE
        assert "no model here captions pictures: nsedge-export model makes one" in told


def test_the_configured_model_is_asked(home, picture, monkeypatch, capsys):
    monkeypatch.setenv("NSEDGE_MEDIA_CAPTION_MODEL", "absent")
    with fake_daemon(home, FakeService()):
        assert main(["caption", picture]) == ExitStatus.FAILURE
    assert "absent" in capsys.readouterr().err
