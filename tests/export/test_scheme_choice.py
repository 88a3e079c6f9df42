"""Schemes that do not fit a model are refused with the reason; those that do are packaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporters.__main__ import main
from nsedge.bundle.manifest import Bundle
from tests.export.tiny import write_model_folder

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]


@pytest.fixture(scope="module")
def folder(places: Path) -> Path:
    return write_model_folder(places / "Tiny", "qwen2")


def told(capsys: pytest.CaptureFixture[str], *arguments: str, status: int) -> dict[str, Any]:
    assert main(["model", *arguments, "--json"]) == status
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_an_int8_cache_beside_turned_values_is_refused_before_any_work(
    folder: Path, places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = told(capsys, str(folder), "--scheme", "w8a8", "--kv", "int8", status=1)["error"]
    assert "choose one of them" in error
    assert not (places / "cache" / "reference").exists()


def test_a_model_of_no_q4_1_blocks_is_refused_by_the_name_of_a_matrix(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = told(capsys, str(folder), "--scheme", "x4", status=1)["error"]
    assert "proj" in error
    assert "Q4_1" in error


def test_rotated_bundles_say_how_near_they_are(
    folder: Path, places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = told(capsys, str(folder), "--scheme", "w8a8", "--name", "turned", status=0)
    assert 0 < made["fidelity"]["kl"] < 0.05
    bundle = Bundle.open(places / "home" / "bundles" / "turned")
    assert "cpu-w8a8" in {variant.name for variant in bundle.manifest.variants}
