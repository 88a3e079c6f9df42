"""A home of its own for each test, and a daemon with the fake behind it."""

import pytest

from tests.fake_daemon import fake_daemon
from tests.fakes import FakeService


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "NSEDGE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NSEDGE_HOME", str(tmp_path))
    monkeypatch.setenv("NSEDGE_ENDPOINT", f"ipc://{tmp_path}/core.sock")
    return tmp_path


@pytest.fixture
def daemon(home):
    service = FakeService()
    with fake_daemon(home, service):
        yield service
