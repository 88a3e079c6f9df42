"""Pictures that are read in a process of their own come out as here, and streams come first."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nsedge.api import Media
from nsedge.api.media import RAW_PICTURE
from nsedge.bundle.pictures import PictureSteps, Resize
from nsedge.errors import InvalidMedia, MessageTooLarge, NsedgeError
from nsedge.runtime.machine.arbiter import Arbiter, Rank
from nsedge.runtime.vision import apart, child
from nsedge.runtime.vision.preparing import prepare
from tests.fakes import FakeClock
from tests.ipc import PATIENCE_S

STEPS = PictureSteps(resize=Resize(height=4, width=4, filter="bicubic"), rescale=1 / 255)
PICTURE = Media(
    type=RAW_PICTURE,
    data=np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8).tobytes(),
    shape=(9, 7, 3),
    dtype="uint8",
)
ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def process() -> Iterator[apart.PictureProcess]:
    made = apart.PictureProcess(None)
    yield made
    made.close()


def pid_of(process: apart.PictureProcess) -> int:
    assert process._child is not None
    return process._child._process.pid


def test_a_picture_comes_out_as_it_does_here(process: apart.PictureProcess) -> None:
    made = process.call("prepare", PICTURE, STEPS, max_pixels=100)
    assert np.array_equal(made, prepare(PICTURE, STEPS, max_pixels=100))


def test_what_is_refused_there_is_refused_here(process: apart.PictureProcess) -> None:
    with pytest.raises(MessageTooLarge, match="a picture of 7 x 9 pixels; 10 in all"):
        process.call("prepare", PICTURE, STEPS, max_pixels=10)
    with pytest.raises(InvalidMedia, match="1 bytes are no picture"):
        process.call("prepare", Media(type="image/png", data=b"x"), STEPS, max_pixels=10)
    with pytest.raises(RuntimeError, match=r"AttributeError: .*nothing"):
        process.call("nothing", PICTURE)
    assert process.call("prepare", PICTURE, STEPS, max_pixels=100).shape == (3, 4, 4)


def test_one_that_was_killed_between_two_pictures_is_started_anew(
    process: apart.PictureProcess,
) -> None:
    process.call("prepare", PICTURE, STEPS, max_pixels=100)
    before = pid_of(process)
    os.kill(before, signal.SIGKILL)
    assert process.call("prepare", PICTURE, STEPS, max_pixels=100).shape == (3, 4, 4)
    assert pid_of(process) != before


def test_one_that_cannot_even_begin_is_told(
    process: apart.PictureProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "CHILD", "nsedge.no_such_module")
    with pytest.raises(NsedgeError, match="the process that reads pictures ended"):
        process.call("prepare", PICTURE, STEPS, max_pixels=100)


HALF_AN_ANSWER = """
import os, socket, struct, sys
from multiprocessing.connection import Connection
with Connection(int(sys.argv[1])) as pipe:
    pipe.recv_bytes()
    os.write(pipe.fileno(), struct.pack("!i", 100) + b"half")
"""


def test_one_that_ends_in_the_middle_of_its_answer_is_told(
    process: apart.PictureProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "half_an_answer.py").write_text(HALF_AN_ANSWER)
    monkeypatch.syspath_prepend(str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(apart, "CHILD", "half_an_answer")
        with pytest.raises(NsedgeError, match="the process that reads pictures ended"):
            process.call("prepare", PICTURE, STEPS, max_pixels=100)
    assert process.call("prepare", PICTURE, STEPS, max_pixels=100).shape == (3, 4, 4)


def test_one_that_cannot_be_started_is_told(
    process: apart.PictureProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(NsedgeError, match="the process that reads pictures ended"):
        process.call("prepare", PICTURE, STEPS, max_pixels=100)


def test_what_lies_in_the_working_directory_is_not_imported(
    process: apart.PictureProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert process.call("prepare", PICTURE, STEPS, max_pixels=100).shape == (3, 4, 4)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "T"


@ONLY_LINUX
def test_while_streams_run_it_goes_on_in_its_turns_only() -> None:
    clock = FakeClock()
    arbiter = Arbiter(clock=clock)
    streams = arbiter.seat(Rank.STREAMS)
    process = apart.PictureProcess(arbiter.seat(Rank.OTHERS))
    try:
        process.call("prepare", PICTURE, STEPS, max_pixels=100)
        with streams:
            clock.advance(0.01)
        with ThreadPoolExecutor(1) as pool:

            def ask() -> Future[NDArray[np.uint8]]:
                return pool.submit(process.call, "prepare", PICTURE, STEPS, max_pixels=100)

            until_s = time.monotonic() + PATIENCE_S
            with streams:
                called = ask()
                while not is_stopped(pid_of(process)):
                    assert time.monotonic() < until_s
                    called = ask() if called.done() else called  # it was too quick
                assert not called.done()
            assert called.result(PATIENCE_S).shape == (3, 4, 4)
        while is_stopped(pid_of(process)):
            assert time.monotonic() < until_s
    finally:
        process.close()


PARENT = """
import signal, time
from tests.unit.runtime.vision.test_apart import PICTURE, STEPS, apart, pid_of
process = apart.PictureProcess(None)
process.call("prepare", PICTURE, STEPS, max_pixels=100)
process._child.signal(signal.SIGSTOP)
print(pid_of(process), flush=True)
time.sleep(3600)
"""


@ONLY_LINUX
def test_it_ends_with_a_parent_that_is_killed_while_it_is_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    until_s = time.monotonic() + PATIENCE_S
    while runs(pid):
        assert time.monotonic() < until_s


def runs(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has looked after yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_thread_without_a_process_reads_here() -> None:
    here = importlib.import_module("nsedge.runtime.vision.preparing")
    assert apart.module("preparing") is here


def test_a_thread_with_one_has_pictures_read_there(process: apart.PictureProcess) -> None:
    with ThreadPoolExecutor(1, initializer=apart.use, initargs=(process,)) as pool:
        asked = pool.submit(
            lambda: apart.module("preparing").prepare(PICTURE, STEPS, max_pixels=100)
        )
        assert np.array_equal(asked.result(), prepare(PICTURE, STEPS, max_pixels=100))
    pid_of(process)


def test_what_is_no_bytes_of_a_picture_is_read_here(process: apart.PictureProcess) -> None:
    class Frame(Media):
        """A part of something that is open."""

    frame = Frame(type=RAW_PICTURE, data=PICTURE.data, shape=PICTURE.shape, dtype="uint8")
    with ThreadPoolExecutor(1, initializer=apart.use, initargs=(process,)) as pool:
        read = pool.submit(lambda: apart.module("preparing").prepare(frame, STEPS, max_pixels=100))
        assert read.result().shape == (3, 4, 4)
    assert process._child is None


def test_it_ends_when_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "IDLE_S", 0.0)
    ours, theirs = Pipe()
    with ours, theirs:
        child.serve(theirs)


def test_it_ends_when_nobody_is_there_any_more() -> None:
    ours, theirs = Pipe()
    ours.close()
    with theirs:
        child.serve(theirs)
