"""`nsedge gen image` against the fake service behind a real door."""

from __future__ import annotations

import json

import pytest

from nsedge.__main__ import main
from nsedge.api import Imagine
from nsedge.cli.exits import ExitStatus
from tests.fake_daemon import fake_daemon
from tests.fakes import MODEL, FakeService


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "NSEDGE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NSEDGE_HOME", str(tmp_path))
    monkeypatch.setenv("NSEDGE_ENDPOINT", f"ipc://{tmp_path}/core.sock")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def daemon(home):
    service = FakeService(tasks=("imagine",))
    with fake_daemon(home, service):
        yield service


def test_a_picture_is_written_to_its_file(daemon, home, capsys):
    flags = ["--size", "64x32", "--seed", "7", "--steps", "4", "--out", "quay.png"]
    assert main(["gen", "image", "--prompt", "a quay", *flags]) == 0
    assert (home / "quay.png").read_bytes() == b"a quay 7"
    assert (home / "quay.png").stat().st_mode & 0o777 == 0o644
    assert capsys.readouterr().out == "quay.png: 64 x 32, seed 7, 4 steps by euler\n"
    (asked,) = daemon.requests
    assert asked.model == MODEL
    assert asked.task == Imagine(prompt="a quay", width=64, height=32, steps=4, seed=7)


def test_several_are_numbered_and_unnamed_ones_called_by_their_seed(daemon, home, capsys):
    assert main(["gen", "image", "--prompt", "a", "--count", "2", "--out", "b.png", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["file"] for one in told] == ["b-0.png", "b-1.png"]
    assert told[1]["record"]["seed"] == 1
    assert (home / "b-1.png").read_bytes() == b"a 1"
    assert main(["gen", "image", "--prompt", "a", "--seed", "5"]) == 0
    assert (home / "seed-5.png").read_bytes() == b"a 5"


def test_every_flag_is_asked_for(daemon):
    flags = ["--negative-prompt", "fog", "--guidance", "3", "--guidance-rescale", "0.5"]
    flags += ["--scheduler", "unipc", "--model", MODEL, "--deadline", "60"]
    assert main(["gen", "image", "--prompt", "a", *flags, "--quiet"]) == 0
    (asked,) = daemon.requests
    assert asked.task == Imagine(
        prompt="a",
        negative_prompt="fog",
        guidance=3.0,
        guidance_rescale=0.5,
        scheduler="unipc",
    )
    assert asked.deadline_s == 60.0


@pytest.mark.parametrize("size", ["64", "64x", "x64", "-1x4", "6 4x3"])
def test_a_size_that_is_none_is_named(size, capsys):
    with pytest.raises(SystemExit):
        main(["gen", "image", "--prompt", "a", f"--size={size}"])
    assert f"{size!r} is no size such as 512x768" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named(daemon, home, capsys):
    assert main(["gen", "image", "--prompt", "a", "--out", "no/b.png"]) == ExitStatus.FAILURE
    assert "no/b.png: No such file or directory" in capsys.readouterr().err
    assert main(["gen", "image", "--prompt", "a", "--out", str(home)]) == ExitStatus.FAILURE
    assert f"{home}: Is a directory" in capsys.readouterr().err
    assert not daemon.requests, "minutes of work are not begun for nothing"
    assert not list(home.glob(".b.png*"))


def test_without_a_model_it_says_how_to_get_one(home, capsys):
    with fake_daemon(home, FakeService(tasks=("chat",))):
        assert main(["gen", "image", "--prompt", "a"]) != 0
    assert "no model here makes pictures" in capsys.readouterr().err
