"""What a process leaves out while it imports, and puts back."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsedge.cli.exits import ExitStatus
from nsedge.cli.starting import importing


@pytest.fixture(autouse=True)
def thawed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_meanwhile_and_what_is_there_is_never_looked_at_again() -> None:
    gc.unfreeze()
    with importing():
        assert not gc.isenabled()
        assert gc.get_freeze_count() == 0
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000


def test_a_collector_that_was_off_stays_off_and_an_import_that_fails_changes_nothing() -> None:
    gc.disable()
    with pytest.raises(ModuleNotFoundError), importing():
        raise ModuleNotFoundError
    assert not gc.isenabled()


def test_products_get_one_thread_unless_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with importing():
        assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "8")
    with importing():
        assert os.environ["OPENBLAS_NUM_THREADS"] == "8"


def interrupted_within(module: str, *words: str, into: Path) -> subprocess.CompletedProcess[str]:
    """The command, sent SIGINT while it imports a module that takes for ever."""
    (into / f"{module}.py").write_text(
        "import sys, threading\n"
        "print('importing', file=sys.stderr, flush=True)\n"
        "while True:\n"
        "    try:\n"
        "        threading.Event().wait()\n"
        "    except BaseException as error:\n"
        "        raise ImportError('a part is missing') from error\n"
    )
    path = os.pathsep.join([str(into), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-m", "nsedge", *words],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        out, told = process.communicate(timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, out, told)


@pytest.mark.parametrize(
    ("module", "words"), [("msgspec", ["models"]), ("zmq", ["models"]), ("aiohttp", ["web"])]
)
def test_an_interrupt_meanwhile_ends_it_in_silence(
    module: str, words: list[str], tmp_path: Path
) -> None:
    done = interrupted_within(module, *words, into=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (ExitStatus.INTERRUPTED, "", "")


def test_who_hears_interrupts_goes_on_hearing_them() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with importing():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before
