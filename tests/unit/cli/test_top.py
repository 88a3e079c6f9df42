"""`nsedge top`: views made of two looks, and the command against a core that is busy."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import subprocess
import sys

import pytest

from nsedge.__main__ import main
from nsedge.api import Stats
from nsedge.cli import top
from nsedge.cli.exits import ExitStatus
from tests.fake_daemon import fake_daemon
from tests.unit.sample_stats import MODELS, Busy, stats, without_model


def row(lines: list[str], name: str) -> list[str]:
    (line,) = [line for line in lines if line.startswith(name)]
    return line.split()


def test_rates_are_of_the_time_between_two_looks() -> None:
    lines = top.view(stats(1, uptime_s=10.0), stats(3, uptime_s=14.0), MODELS)
    assert row(lines, "echo") == [
        "echo", "causal-lm", "ready", "2/4", "1", "25%", "20.0", "50.0", "25%",
        "55", "820", "55", "820", "0",
        "15.0", "texts/s,", "10.0", "pictures/s,", "30.0", "x", "sound", "128.0", "MiB",
    ]  # fmt: skip


def test_the_first_look_has_no_rates() -> None:
    lines = top.view(None, stats(), MODELS)
    assert row(lines, "echo")[6:8] == ["-", "-"]
    assert lines[0].startswith("nsedge · up 1:02:05 · 300.0 MiB resident · 7 requests · event loop")


def test_a_model_without_a_cache_has_no_share_of_one() -> None:
    told = stats()
    bare = {
        name: dataclasses.replace(one, kv_tokens_used=0, kv_tokens_capacity=0)
        for name, one in told.models.items()
    }
    lines = top.view(None, dataclasses.replace(told, models=bare), MODELS)
    assert row(lines, "echo")[5] == "-"


def test_only_what_a_model_has_done_is_told_of_it() -> None:
    def heard(times: int, **at: float) -> Stats:
        told = stats(times, **at)
        return dataclasses.replace(told, models={
            name: dataclasses.replace(one, texts=0, images=0) for name, one in told.models.items()
        })  # fmt: skip

    lines = top.view(heard(1, uptime_s=10.0), heard(2, uptime_s=20.0), MODELS)
    assert row(lines, "echo")[-5:-2] == ["6.0", "x", "sound"]


def test_memory_and_failures_have_a_line_each() -> None:
    lines = top.view(None, stats(), MODELS)
    assert lines[1] == (
        "memory 125.0 MiB of 500.0 MiB [#####...............]"
        " · 3 loads, 1 failed, 1 evicted, 1 idle"
    )
    assert lines[-1] == "failed: 2 queue_full, 1 unknown_model"


def test_models_on_their_way_are_shown_and_those_on_disk_counted() -> None:
    lines = top.view(None, stats(), MODELS)
    assert row(lines, "coming")[:5] == ["coming", "causal-lm", "loading", "40%", "-"]
    assert "and 1 on disk" in lines


def test_what_was_loaded_anew_is_counted_anew() -> None:
    before, now = stats(5, uptime_s=10.0), stats(1, uptime_s=12.0)
    assert row(top.view(before, now, MODELS), "echo")[6] == "20.0"


def test_a_core_that_started_anew_is_looked_at_anew() -> None:
    lines = top.view(stats(5, uptime_s=100.0), stats(1, uptime_s=1.0), MODELS)
    assert row(lines, "echo")[6] == "-"


def test_a_core_without_models_or_figures_has_a_view() -> None:
    told = dataclasses.replace(without_model(stats()), residency=None, loop_lag=None, failures={})
    lines = top.view(None, told, ())
    assert lines[0] == "nsedge · up 1:02:05 · 300.0 MiB resident · 7 requests"
    assert lines[2].split()[0] == "MODEL"


@pytest.fixture
def busy(tmp_path, monkeypatch):
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "NSEDGE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NSEDGE_HOME", str(tmp_path))
    monkeypatch.setenv("NSEDGE_ENDPOINT", f"ipc://{tmp_path}/core.sock")
    with fake_daemon(tmp_path, Busy()):
        yield


def test_once_is_one_view(busy, capsys):
    assert main(["top", "--once", "--interval", "0.1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert row(lines, "echo")[6] == "40.0"
    assert "\x1b" not in "".join(lines)


def test_once_as_json_is_the_statistics(busy, capsys):
    assert main(["top", "--once", "--json", "--interval", "0.1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["models"]["echo"]["times"]["step"]["counts"] == [2, 4, 2, 0]


@pytest.mark.parametrize("interval", ["0", "nan", "-1", "x"])
def test_an_impossible_interval_is_refused(interval, capsys):
    with pytest.raises(SystemExit) as left:
        main(["top", "--interval", interval])
    assert left.value.code == ExitStatus.USAGE
    assert "interval" in capsys.readouterr().err


def test_in_a_terminal_it_takes_the_screen_and_gives_it_back(busy):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "nsedge", "top", "--interval", "60"], stdin=theirs, stdout=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while b"asleep" not in shown and b"on disk" not in shown:
            shown += os.read(ours, 65536)
        os.write(ours, b"xq")
        while not shown.endswith(b"\x1b[?1049l"):
            shown += os.read(ours, 65536)
        assert process.wait(10) == 0
    os.close(ours)
    assert shown.startswith(b"\x1b[?1049h")
    assert b"echo" in shown
