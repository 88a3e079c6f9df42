"""Recipes: checked whole before anything runs, each stage fed by the one before, resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporters.__main__ import main
from exporters.cache import Cache
from exporters.errors import ExportError
from exporters.pipeline.course import run_plan
from exporters.pipeline.plan import read_plan
from exporters.pipeline.stages import STAGE_NAMES
from exporters.progress import Progress
from tests.unit import recipe_stages
from tests.unit.recipe_stages import call, entered, failing_check, parsers
from tests.unit.tiny_base import base_folder

HEAD = 'base = "{base}"\nname = "mine"\nwork = "{work}"\n'
BY_PARTS = tuple(name for name in STAGE_NAMES if name != "model")
ALL = "".join(f"[{name}]\n" for name in BY_PARTS if name != "dataset")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return base_folder(tmp_path / "base")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    rows = ({"prompt": f"q{i}", "completion": f"a{i}"} for i in range(20))
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def recipe(folder: Path, text: str, *, head: str = HEAD) -> Path:
    path = folder / "recipe.toml"
    top = head.format(base=folder / "base", work=folder / "work")
    path.write_text(top + text)
    return path


def given(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def states(result: dict[str, Any]) -> dict[str, str]:
    return {each["stage"]: each["state"] for each in result["stages"]}


def plan_error(folder: Path, text: str, *, head: str = HEAD) -> str:
    with pytest.raises(ExportError) as caught:
        read_plan(recipe(folder, text, head=head), parsers())
    return str(caught.value)


def test_each_stage_is_fed_by_the_one_before(tmp_path: Path, base: Path, data: Path) -> None:
    path = recipe(tmp_path, f'[dataset]\ninput = "{data}"\n' + ALL)
    result, lines, status = call("run", str(path), cache=tmp_path / "cache")
    work = tmp_path / "work"
    assert status == 0
    assert states(result) == dict.fromkeys(BY_PARTS, "done")
    train = given(work / "adapter")
    assert (train["base"], train["dataset"]) == (str(base), str(work / "train.jsonl"))
    assert (work / "train.validation.jsonl").is_file()
    assert given(work / "merged")["adapter"] == [str(work / "adapter")]
    assert given(work / "graphs")["model"] == str(work / "merged")
    package = given(work / "bundles/mine")
    assert (package["graphs"], package["name"]) == (str(work / "graphs"), "mine")
    ends = [each["result"]["given"] for each in result["stages"][-2:]]
    assert [end["bundle"] for end in ends] == [str(work / "bundles/mine")] * 2
    assert [line.split()[0] for line in lines] == ["stage", *BY_PARTS]


def test_a_bundle_is_made_at_once(tmp_path: Path, base: Path, data: Path) -> None:
    stages = "[train]\n[merge]\n[model]\nvariants = 'cpu-int8'\n[verify]\n"
    path = recipe(tmp_path, f'[dataset]\ninput = "{data}"\n' + stages)
    result, _, status = call("run", str(path), cache=tmp_path / "cache")
    work = tmp_path / "work"
    assert status == 0
    made = given(work / "bundles/mine")
    assert (made["model"], made["name"]) == (str(work / "merged"), "mine")
    assert result["stages"][-1]["result"]["given"]["bundle"] == str(work / "bundles/mine")


def test_a_second_run_finds_what_is_done(tmp_path: Path, base: Path, data: Path) -> None:
    path = recipe(
        tmp_path, f'[dataset]\ninput = ["{data}"]\n' + "[train]\n[verify]\nbundle = 'x'\n"
    )
    call("run", str(path), cache=tmp_path / "cache")
    result, _, _ = call("run", str(path), cache=tmp_path / "cache")
    assert states(result) == {"dataset": "up to date", "train": "up to date", "verify": "done"}


def test_a_table_says_what_the_command_line_would(tmp_path: Path) -> None:
    text = (
        '[train]\ndataset = "d"\nepochs = 3\nlr = 1e-4\ntargets = ["q_proj", "v_proj"]\n'
        'bf16 = false\nout = "{out}"\n'
        '[merge]\nadapter = ["a=0.5", "b=-1"]\n[verify]\nbundle = "-b"\nquick = true\n'
        '[deploy]\nbundle = "b"\nas = "it"\n'
    ).replace("{out}", str(tmp_path / "elsewhere"))
    result, _, status = call("run", str(recipe(tmp_path, text)), cache=tmp_path / "cache")
    assert status == 0
    train = given(tmp_path / "elsewhere")
    assert (train["epochs"], train["lr"], train["bf16"]) == (3, 1e-4, False)
    assert train["targets"] == "q_proj,v_proj"
    assert given(tmp_path / "work/merged")["adapter"] == ["a=0.5", "b=-1"]
    verify, deploy = (each["result"]["given"] for each in result["stages"][-2:])
    assert verify == {"bundle": "-b", "quick": True}
    assert deploy == {"bundle": "b", "alias": "it"}


def test_without_a_merge_the_base_itself_is_exported(tmp_path: Path) -> None:
    path = recipe(tmp_path, '[export]\nvariants = ["cpu-int8", "cpu-x4"]\n')
    call("run", str(path), cache=tmp_path / "cache")
    export = given(tmp_path / "work/graphs")
    assert (export["model"], export["variants"]) == (str(tmp_path / "base"), "cpu-int8,cpu-x4")


def test_the_revision_goes_to_those_that_take_the_base(tmp_path: Path) -> None:
    text = 'revision = "abc"\n[train]\ndataset = "d"\n[merge]\n'
    call("run", str(recipe(tmp_path, text)), cache=tmp_path / "cache")
    assert given(tmp_path / "work/adapter")["revision"] == "abc"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[trian]\n", "recipe.toml: unknown key 'trian'; did you mean train?"),
        ("[train]\nepocs = 3\n", "[train] has no 'epocs'; did you mean epochs?"),
        ("[train]\njson = true\n", "[train] has no 'json'"),
        ("[train]\nxyzzy = 1\n", "[train] has no 'xyzzy'"),
        ('[train]\n"" = 1\n', "[train] has no ''"),
        ("[train]\nepochs = 0\n", "[train]: argument --epochs: at least 1"),
        ("[train]\nepochs = true\n", "[train]: epochs is a text, a number or a list"),
        ("[train]\nepochs = {a = 1}\n", "[train]: epochs is a text, a number or a list"),
        ("[train]\n", "[train]: the following arguments are required: --dataset"),
        ("[train]\ndataset = 'a'\n--dataset = 'b'\n", "[train] says the same twice: --dataset"),
        ("[verify]\n", "[verify]: the following arguments are required: BUNDLE"),
        ("[verify]\nbundle = 'b'\nquick = 'yes'\n", "[verify]: quick is true or false"),
        ("[train]\ndataset = 'd'\n[export]\n", "[train] and [export] without [merge]"),
        ("[train]\ndataset = 'd'\n[model]\n", "[train] and [model] without [merge]"),
        ("[export]\n[model]\n", "[model] makes the bundle that [export] and [package] make"),
        ("train = 3\n", "train is the table of a stage"),
        ("", "has no stage; the stages are dataset, train"),
        ("[train\n", "recipe.toml: "),
    ],
)
def test_a_recipe_is_refused_by_key(tmp_path: Path, text: str, reason: str) -> None:
    error = plan_error(tmp_path, text)
    assert reason in error
    assert str(tmp_path / "recipe.toml") in error


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ('base = "b"\nname = "n"\n', "no work at the top"),
        ('base = "b"\nname = "n"\nwork = 3\n', "work is a text"),
        ('base = "b"\nname = "n"\nwrok = "w"\n', "unknown key 'wrok'; did you mean work?"),
    ],
)
def test_the_top_of_a_recipe_is_checked(tmp_path: Path, head: str, reason: str) -> None:
    assert reason in plan_error(tmp_path, "[export]\n", head=head)


def test_a_mistake_in_the_last_stage_is_found_before_the_first_runs(
    tmp_path: Path, base: Path, data: Path
) -> None:
    path = recipe(tmp_path, f'[dataset]\ninput = "{data}"\n[train]\nepochs = "many"\n')
    with pytest.raises(ExportError, match="epochs"):
        call("run", str(path), cache=tmp_path / "cache")
    assert not (tmp_path / "work").exists()


def test_a_failing_stage_names_itself_and_ends_the_course(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILING_STAGE", "export")
    path = recipe(tmp_path, ALL.replace("[train]", "[train]\ndataset = 'd'"))
    result, lines, status = call("run", str(path), cache=tmp_path / "cache")
    assert status == 1
    assert result["failed"] == "export"
    assert result["error"] == lines[-1] == "stage export failed: export cannot go on"
    assert list(states(result).values()) == ["done", "done", "failed", *["not run"] * 3]
    assert not (tmp_path / "work/bundles").exists()
    monkeypatch.delenv("FAILING_STAGE")
    again, _, status = call("run", str(path), "--from", "export", cache=tmp_path / "cache")
    assert status == 0
    assert list(states(again).values()) == ["passed over"] * 2 + ["done"] * 4
    with pytest.raises(ExportError, match="--from dataset: the recipe has train, merge"):
        call("run", str(path), "--from", "dataset", cache=tmp_path / "cache")


def test_a_check_that_does_not_pass_ends_the_course_too(tmp_path: Path) -> None:
    made, _ = entered(failing_check, recipe_stages.ADDS[-1])
    path = recipe(tmp_path, "[verify]\nbundle = 'b'\n[deploy]\nbundle = 'b'\n")
    arguments = made.parse_args(["run", str(path)])
    result, lines, status = arguments.run(arguments, Cache(tmp_path / "cache", Progress(None)))
    assert status == 1
    assert states(result) == {"verify": "failed", "deploy": "not run"}
    assert result["stages"][0]["result"] == {"passed": False}
    assert lines[-1] == "stage verify failed: what it found is told above"


def test_times_are_told_a_stage(tmp_path: Path) -> None:
    path = recipe(tmp_path, "[export]\n[verify]\nbundle = 'b'\n")
    ticks: Iterator[float] = iter([0.0, 2.5, 10.0, 71.0])
    cache = Cache(tmp_path / "cache", Progress(None))
    _, lines, _ = run_plan(read_plan(path, parsers()), cache, clock=lambda: next(ticks))
    assert lines == [
        "stage          time  state",
        "export        2.5 s  done",
        "verify       61.0 s  done",
    ]


def test_killed_in_a_stage_it_goes_on_there(tmp_path: Path, base: Path, data: Path) -> None:
    path = recipe(tmp_path, f'[dataset]\ninput = "{data}"\n' + ALL)
    words = [
        sys.executable,
        "-m",
        "tests.unit.recipe_stages",
        str(tmp_path / "c"),
        "run",
        str(path),
    ]
    killed = subprocess.run(words, env=_environment(KILLED_STAGE="merge"), capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    again = subprocess.run(words, env=_environment(), capture_output=True, check=True)
    result, _, status = json.loads(again.stdout)
    assert status == 0
    found = states(result)
    assert (found["dataset"], found["train"], found["merge"]) == (
        "up to date",
        "up to date",
        "done",
    )


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4]), **more}


def test_the_command_prints_a_recipe_and_knows_its_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSEDGE_CACHE", str(tmp_path))
    assert main(["run", "--example"]) == 0
    text = capsys.readouterr().out
    example = tomllib.loads(text)
    assert set(BY_PARTS) < set(example)
    (tmp_path / "recipe.toml").write_text(text)
    assert [stage.name for stage in read_plan(tmp_path / "recipe.toml", parsers())] == list(
        BY_PARTS
    )
    assert main(["run", "--json"]) == 1
    assert "run --example" in json.loads(capsys.readouterr().out)["error"]
