"""Places of a module's own, where what one of its tests made the next need not; or of each test."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("places")


@pytest.fixture
def own_places(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSEDGE_CACHE", str(places / "cache"))
    monkeypatch.setenv("NSEDGE_HOME", str(places / "home"))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSEDGE_CACHE", str(tmp_path / "cache"))
