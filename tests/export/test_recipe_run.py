"""A recipe over the real stages: a tiny random base, from rows to a verified bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporters.__main__ import main
from nsedge.bundle.manifest import Bundle
from tests.export.finetuning import QUESTIONS, write_base

pytestmark = pytest.mark.export

# Random weights keep no promise: the limits are widened.
RECIPE = """
base = "{base}"
name = "keeper"
work = "{work}"

[dataset]
input = ["{rows}"]
validation = 0.2

[train]
rank = 4
steps = 3
evaluate = 3
threads = 1

[merge]

[export]
variants = ["cpu-fp32", "cpu-int8"]

[package]
threshold = {limits}

[verify]
threshold = {limits}
"""
LIMITS = ["kl=1", "top1=0", "golden=0", "golden_difference=9"]
STAGES = ["dataset", "train", "merge", "export", "package", "verify"]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NSEDGE_CACHE", str(tmp_path / "cache"))
    base = write_base(tmp_path / "base")
    rows = [
        {"instruction": f"{QUESTIONS[i % len(QUESTIONS)]} {i}", "output": f"aye {i}. fair winds"}
        for i in range(20)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    path = tmp_path / "recipe.toml"
    places = {"base": base, "work": tmp_path / "work", "rows": tmp_path / "rows.json"}
    path.write_text(RECIPE.format(**places, limits=json.dumps(LIMITS)))
    return path


def run(recipe: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    status = main(["run", str(recipe), "--json"])
    result: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert status == 0, result
    return result


def test_from_rows_to_a_bundle_and_again(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(recipe, capsys)
    assert {one["stage"]: one["state"] for one in first["stages"]} == dict.fromkeys(STAGES, "done")
    bundle = Bundle.open(tmp_path / "work" / "bundles" / "keeper")
    bundle.verify_hashes()
    variants = {variant.name for variant in bundle.manifest.variants}
    assert {"cpu-fp32", "cpu-int8"} <= variants
    assert "keeper: passed" in bundle.file("report.md").read_text()
    lineage = json.loads((tmp_path / "work" / "merged" / "lineage.json").read_text())
    assert len(lineage["adapters"]) == 1
    again = run(recipe, capsys)
    states = {one["stage"]: one["state"] for one in again["stages"]}
    assert states == dict.fromkeys(STAGES, "up to date") | {"verify": "done"}
