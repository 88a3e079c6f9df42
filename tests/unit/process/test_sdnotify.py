"""The supervisor's datagrams, on a socket of our own."""

from __future__ import annotations

import logging
import socket
import time

import pytest

from nsedge.process.sdnotify import Notifier


@pytest.fixture
def inbox(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(str(tmp_path / "notify"))
        door.settimeout(60)
        yield door


def test_each_call_is_one_datagram(inbox):
    notifier = Notifier(inbox.getsockname())
    notifier.extend_timeout(1.5)
    notifier.ready("serving\nsmollm2")
    notifier.status("busy")
    notifier.watchdog()
    notifier.stopping()
    notifier.stopping("draining: 20 s")
    assert [inbox.recv(4096).decode() for _ in range(6)] == [
        "EXTEND_TIMEOUT_USEC=1500000",
        "READY=1\nSTATUS=serving smollm2",
        "STATUS=busy",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=draining",
        "STOPPING=1\nSTATUS=draining: 20 s",
    ]


def test_a_reload_carries_the_moment_that_it_began(inbox):
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Notifier(inbox.getsockname()).reloading("reading")
    first, stamp, status = inbox.recv(4096).decode().splitlines()
    assert (first, status) == ("RELOADING=1", "STATUS=reading")
    name, _, at_us = stamp.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before_us <= int(at_us) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_an_abstract_address(tmp_path):
    name = f"nsedge-test-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(f"\0{name}")
        door.settimeout(60)
        Notifier(f"@{name}").watchdog()
        assert door.recv(64) == b"WATCHDOG=1"


def test_silent_without_a_supervisor(caplog):
    Notifier(None).ready("nobody hears")
    assert caplog.records == []


def test_a_supervisor_that_went_away_stops_nothing(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        Notifier(str(tmp_path / "gone")).watchdog()
    assert "WATCHDOG=1" in caplog.text
