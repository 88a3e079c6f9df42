"""The older system's three lines, without `--base`: each stage takes the base of the one before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from exporters.__main__ import main
from exporters.bundle import starter_folder
from exporters.cache import Cache
from exporters.model.lora_config import CONFIG_FILE
from exporters.model.source import Source
from tests.export.finetuning import QUESTIONS, write_base
from tests.export.test_merge import write_adapter

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_cache")]

STARTER = starter_folder.ORIGIN
QUICK = ("--steps", "1", "--rank", "2", "--threads", "1")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "models" / "Tiny")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with data in it."""
    folder = tmp_path / "work"
    folder.mkdir()
    rows = [{"prompt": question, "completion": "aye"} for question in QUESTIONS]
    (folder / "data.json").write_text(json.dumps(rows))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def small_starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model where the starter's package would be fetched."""
    folder = write_base(tmp_path / "fetched")

    def source(cache: Cache) -> Source:
        return Source(folder=folder, origin=STARTER, revision=starter_folder.REVISION)

    monkeypatch.setattr(starter_folder, "starter_source", source)
    return folder


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words, "--json"]) == 1
    return str(json.loads(capsys.readouterr().out)["error"])


DATASET = ("dataset", "--input", "data.json", "--output", "train.jsonl")
TRAIN = ("train", "--dataset", "train.jsonl", "--out", "my_adapter", *QUICK)
MERGE = ("merge", "--adapter", "my_adapter", "--out", "merged_model")


def test_three_lines_without_a_base_take_the_starter(
    small_starter: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (DATASET, TRAIN, MERGE):
        assert main(words) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  base:")]
    assert lines == [
        f"  base: {STARTER}, the starter, since none was named",
        f"  base: {STARTER}, the starter, as train.jsonl notes",
        f"  base: {STARTER}, the starter, as adapter my_adapter notes",
    ]
    assert (place / "merged_model" / "model.safetensors").is_file()


def test_a_base_named_once_goes_on_to_the_later_stages(
    base: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = told(capsys, *DATASET, "--base", "../models/Tiny")
    assert (first["base"], first["base_chosen"]) == ("Tiny", "as named")
    second = told(capsys, *TRAIN)
    assert (second["base"], second["base_chosen"]) == ("Tiny", "as train.jsonl notes")
    third = told(capsys, *MERGE)
    assert (third["base"], third["base_chosen"]) == ("Tiny", "as adapter my_adapter notes")
    assert told(capsys, *DATASET, "--base", str(base))["up_to_date"] is True
    for path in (place / "my_adapter").glob("*.json"):
        assert str(base) not in path.read_text()


def test_a_base_that_went_away_is_to_be_named(
    base: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(capsys, *DATASET, "--base", str(base))
    told(capsys, *TRAIN)
    moved = base.rename(base.with_name("Moved"))
    for words, by in ((TRAIN, "train.jsonl"), (MERGE, "adapter my_adapter")):
        error = refusal(capsys, *words)
        assert error == (
            f"{by} was made for Tiny, and where that lies is not known here; name it with --base"
        )
    assert told(capsys, *MERGE, "--base", str(moved))["base_chosen"] == "as named"
    assert "--revision is of a --base on the hub" in refusal(capsys, *MERGE, "--revision", "main")


def test_pefts_own_adapter_names_its_base(
    base: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(base, place / "my_adapter")
    assert told(capsys, *MERGE)["base"] == "Tiny"
    shutil.rmtree(place / "merged_model")
    config = json.loads((adapter / CONFIG_FILE).read_text())
    changed = config | {"base_model_name_or_path": "gone"}
    (adapter / CONFIG_FILE).write_text(json.dumps(changed))
    assert "my_adapter was made for gone, and where" in refusal(capsys, *MERGE)
