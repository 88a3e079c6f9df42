"""A home for a daemon, three versions of a bundle, and nsedge-export."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exporters.__main__ import main
from tests.ipc import short_directory
from tests.unit.exporters.deploy.deployable import Home, write_deployable

Deploy = Callable[..., dict[str, Any]]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Home]:
    with short_directory() as path:
        for name in [name for name in os.environ if name.startswith("NSEDGE_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("NSEDGE_HOME", str(path))
        monkeypatch.setenv("NSEDGE_CONFIG", os.devnull)
        monkeypatch.setenv("NSEDGE_CACHE", str(tmp_path / "cache"))
        yield Home(path)


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three versions of a bundle."""
    return tuple(
        write_deployable(tmp_path / f"v{day}", created=f"2026-01-0{day}T00:00:00Z")
        for day in (1, 2, 3)
    )


@pytest.fixture
def command(home: Home, capsys: pytest.CaptureFixture[str]) -> Deploy:
    """Runs nsedge-export; what it answers, and its exit status under "status"."""

    def run(*words: object) -> dict[str, Any]:
        status = main([*map(str, words), "--to", home.endpoint, "--json"])
        return {**json.loads(capsys.readouterr().out), "status": status}

    return run
