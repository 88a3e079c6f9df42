"""nsedge-export asked to end: one line, the status that shells know, and no half-made file."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporters.deploy.store import Store
from exporters.stopping import Stopped, stops
from tests.unit.exporters.deploy.deployable import write_deployable


@contextmanager
def waiting(tmp_path: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A deployment that waits for another run's end, which does not come."""
    bundle = write_deployable(tmp_path / "bundle", created="2026-01-01T00:00:00Z")
    store = Store(tmp_path / "home" / "bundles")
    store.own.mkdir(parents=True)
    command = [sys.executable, "-m", "exporters", "deploy", str(bundle), "--offline", *words]
    environment = {**os.environ, "NSEDGE_HOME": str(tmp_path / "home"), "NSEDGE_CONFIG": os.devnull}
    with (store.own / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as run:
            assert run.stderr is not None
            assert any("waiting for its end" in line for line in run.stderr)
            yield run
    assert os.listdir(store.folder) == [".deploy"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_signal_ends_it_in_one_line(
    tmp_path: Path, number: signal.Signals, status: int, words: list[str]
) -> None:
    with waiting(tmp_path, *words) as run:
        run.send_signal(number)
        out, err = run.communicate()
    assert run.returncode == status
    assert err == "nsedge-export: interrupted; finished stages are kept\n"
    answer = {"error": "interrupted; finished stages are kept"}
    assert out == (f"{json.dumps(answer)}\n" if words else "")


def test_the_first_signal_raises_and_the_second_is_the_systems() -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(Stopped), stops() as heard:
            signal.raise_signal(signal.SIGTERM)
        assert (heard.came, heard.status) == (signal.SIGTERM, 143)
        assert {signal.getsignal(each) for each in before} == {signal.SIG_DFL}
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_handlers_come_back_and_one_that_ignores_stays() -> None:
    """nohup has a process ignore a signal; so may a shell that starts it in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    term = signal.getsignal(signal.SIGTERM)
    try:
        with stops() as heard:
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGTERM) == heard.stop
        assert heard.status is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is term
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_hear_of_no_signal() -> None:
    term, seen = signal.getsignal(signal.SIGTERM), []

    def listen() -> None:
        with stops():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [term]
