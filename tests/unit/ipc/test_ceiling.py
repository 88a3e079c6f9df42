"""Which connections are one too many, and that nothing else is touched."""

from __future__ import annotations

import logging
import os
import resource
import socket
from pathlib import Path

import pytest

from nsedge.ipc.ceiling import TELL_S, Ceiling
from nsedge.process.descriptors import ceiling
from tests.fakes import FakeClock


@pytest.mark.parametrize(
    ("limit", "first"), [(32, 16), (128, 96), (1024, 768), (65536, 49152), (2**20, 2**20 - 16384)]
)
def test_a_quarter_is_kept_back_within_bounds(limit: int, first: int) -> None:
    assert ceiling(limit) == first


@pytest.fixture
def above() -> int:
    """A descriptor number that is beyond the ceiling, and free."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ceiling(limit)


def test_a_connection_beyond_it_is_ended_and_its_descriptor_left_to_its_owner(
    above: int, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    watch = Ceiling(clock=clock)
    with caplog.at_level(logging.WARNING):
        for gone_by_s in (0.0, TELL_S / 2, TELL_S):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                os.dup2(ours.fileno(), above)
                clock.now_s = gone_by_s
                watch.accepted(above)
                assert theirs.recv(1) == b""
                os.close(above)
    assert watch.turned_away == 3
    assert [line.__dict__["turned_away"] for line in caplog.records] == [1, 3]


def test_a_connection_below_it_goes_on() -> None:
    watch = Ceiling()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        watch.accepted(ours.fileno())
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"
    assert watch.turned_away == 0


def test_what_has_the_number_meanwhile_is_left_alone(above: int, tmp_path: Path) -> None:
    watch = Ceiling()
    watch.accepted(above)  # nothing has it
    with (tmp_path / "file").open("wb") as file:
        os.dup2(file.fileno(), above)
        watch.accepted(above)
        assert os.write(above, b"x") == 1
        os.close(above)
    assert watch.turned_away == 0
