"""What the real core tells its supervisor, from its start to its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ipc import short_directory

pytestmark = pytest.mark.integration
PATIENCE_S = 120.0


@pytest.fixture
def inbox() -> Iterator[tuple[socket.socket, Path]]:
    with (
        short_directory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door,
    ):
        door.bind(str(folder / "notify"))
        door.settimeout(PATIENCE_S)
        yield door, folder


def heard(door: socket.socket, until: str) -> list[str]:
    """Every assignment up to the first that begins with `until`, and those that came with it."""
    told: list[str] = []
    while not any(line.startswith(until) for line in told):
        told += door.recv(4096).decode().splitlines()
    return told


def test_a_core_says_how_far_it_is_from_its_start_to_its_end(
    starter_bundle: Path, inbox: tuple[socket.socket, Path]
) -> None:
    door, folder = inbox
    settings = folder / "nsedge.toml"
    text = (
        f'home = "{folder}"\n[core]\nendpoint = "ipc://{folder}/core.sock"\n'
        f'[models]\nload = ["{starter_bundle}"]\n[engine]\nslots = 2\ncontext_tokens = 256\n'
    )
    settings.write_text(text, encoding="utf-8")
    plain = {key: value for key, value in os.environ.items() if not key.startswith("NSEDGE_")}
    told = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "300000"}
    core = subprocess.Popen(
        [sys.executable, "-m", "nsedge", "--config", str(settings), "serve"],
        env={**plain, **told},
        start_new_session=True,  # away from any terminal: SIGHUP is no hang-up
        stderr=subprocess.DEVNULL,
    )
    try:
        starting = heard(door, "READY=1")
        assert starting[0] == "EXTEND_TIMEOUT_USEC=15000000"
        assert starting[1] == "STATUS=loading models: 0 of 1 checked and ready"
        assert "WATCHDOG=1" not in starting
        heard(door, "WATCHDOG=1")
        settings.write_text(f"{text}burst_s = 1\n[log]\nlevel = 'debug'\n", encoding="utf-8")
        core.send_signal(signal.SIGHUP)
        assert heard(door, "RELOADING=1")[-2].startswith("MONOTONIC_USEC=")
        reloaded = heard(door, "READY=1")
        assert reloaded[-1] == "STATUS=changed log.level; a restart is needed for engine.burst_s"
        core.send_signal(signal.SIGTERM)
        assert heard(door, "STOPPING=1")[-1] == "STATUS=draining: running requests get 20 s"
        assert heard(door, "EXTEND_TIMEOUT_USEC")[-1] == "EXTEND_TIMEOUT_USEC=30000000"
        assert core.wait(PATIENCE_S) == 0
    finally:
        core.kill()
        core.wait()
