"""Endpoints and socket files."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from nsedge.config import endpoints
from nsedge.errors import ConfigInvalid
from nsedge.ipc.limits import Limits
from nsedge.ipc.socket_files import Permit, SocketFile


@pytest.mark.parametrize(
    ("text", "control"),
    [
        ("ipc:///run/nsedge/core.sock", "ipc:///run/nsedge/core.sock.control"),
        ("tcp://127.0.0.1:3010", "tcp://127.0.0.1:3011"),
        ("tcp://[::1]:3010", "tcp://[::1]:3011"),
        ("tcp://localhost:65534", "tcp://localhost:65535"),
    ],
)
def test_each_endpoint_has_its_control(text: str, control: str) -> None:
    endpoint = endpoints.parse(text)
    assert str(endpoint) == text
    assert str(endpoint.control()) == control
    endpoints.refuse_remote(endpoint)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "core.sock",
        "inproc://x",
        "ipc://relative",
        "ipc://",
        "ipc:///" + "x" * 99,
        "tcp://127.0.0.1",
        "tcp://:5",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65535",
        "tcp://127.0.0.1:*",
        "tcp://127.0.0.1:٣",
    ],
)
def test_malformed_endpoints_are_refused(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="endpoint"):
        endpoints.parse(text)


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "192.168.1.4", "[::]", "jetson.local"])
def test_remote_endpoints_need_leave(host: str) -> None:
    with pytest.raises(ConfigInvalid, match="reachable from other machines"):
        endpoints.refuse_remote(endpoints.parse(f"tcp://{host}:3010"))


def test_a_claim_makes_a_private_directory(tmp_path: Path) -> None:
    path = tmp_path / "run" / "core.sock"
    claim = SocketFile.claim(path, permit=Permit())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    claim.release()


def test_a_dead_daemons_socket_is_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "core.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    claim = SocketFile.claim(path, permit=Permit())
    assert not path.exists()
    claim.release()


def test_a_live_socket_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "core.sock"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        with pytest.raises(ConfigInvalid, match="another daemon listens"):
            SocketFile.claim(path, permit=Permit())
    assert path.exists()


def test_a_claim_excludes_another_until_released(tmp_path: Path) -> None:
    path = tmp_path / "core.sock"
    first = SocketFile.claim(path, permit=Permit())
    with pytest.raises(ConfigInvalid, match="another daemon listens"):
        SocketFile.claim(path, permit=Permit())
    first.release()
    SocketFile.claim(path, permit=Permit()).release()


def test_a_file_is_never_taken_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ConfigInvalid, match="not a socket"):
        SocketFile.claim(path, permit=Permit())
    assert path.read_text() == "data"


def test_an_unusable_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigInvalid, match="cannot listen"):
        SocketFile.claim(tmp_path / "file" / "core.sock", permit=Permit())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("heartbeat_s", 0.0),
        ("max_sessions", -1),
        ("stall_s", float("nan")),
        ("liveness_s", 3.0),
        ("initial_credit_bytes", 2**30),
    ],
)
def test_impossible_limits_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        Limits(**{setting: value})  # type: ignore[arg-type]
    assert caught.value.param == setting
