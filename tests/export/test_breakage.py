"""Damaged models, full disks, kills: a clear error, nothing half-written, and a rerun goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nsedge.bundle.manifest import Bundle
from tests.export.tiny import write_model_folder

pytestmark = pytest.mark.export

VARIANTS = ("--variants", "cpu-int8")
LOOSE = ("--threshold", "top1=0", "--threshold", "golden=0")

KILLED = """
import os, signal, sys
import exporters.bundle.export_folder, exporters.bundle.package, exporters.cache
from exporters.__main__ import main

stage = sys.argv[1]
put = exporters.cache._put_in_place

def die(building, path):
    if stage in path.parts:
        os.kill(os.getpid(), signal.SIGKILL)
    put(building, path)

exporters.cache._put_in_place = die
sys.exit(main(sys.argv[2:]))
"""
"""Runs the command and dies, without a last word, when a result of the stage is whole."""

FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from exporters.__main__ import main
sys.exit(main(sys.argv[2:]))
"""
"""Runs the command where no file may be larger than so many bytes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_folder(tmp_path_factory.mktemp("models") / "Tiny")


def run(place: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {
        "NSEDGE_CACHE": str(place / "cache"),
        "NSEDGE_HOME": str(place / "home"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


PLAIN = "import sys\nfrom exporters.__main__ import main\nsys.exit(main(sys.argv[1:]))"


def finished(place: Path) -> list[Path]:
    """What of the store and of the cache bears a final name."""
    roots = [path for path in (place / "home", place / "cache") if path.is_dir()]
    found = [path for root in roots for path in root.glob("*/*") if path.is_dir()]
    return [path for path in found if not path.name.startswith(".")]


def test_a_kill_in_any_stage_leaves_nothing_half_made_and_a_rerun_goes_on(
    folder: Path, tmp_path: Path
) -> None:
    """Each run dies one stage further on; what was whole before is kept."""
    out = str(tmp_path / "exported")
    command = ("export", str(folder), "--out", out, *VARIANTS)
    stages = ("reference", "variant", "trial", "exported")
    for died, stage in enumerate(stages):
        result = run(tmp_path, KILLED, stage, *command)
        assert result.returncode == -signal.SIGKILL, (stage, result.stderr)
        assert not Path(out).exists()
        made = {path.parent.name for path in finished(tmp_path)}
        assert stage not in made
        assert made >= set(stages[:died])
    result = run(tmp_path, PLAIN, *command, "--json")
    assert result.returncode == 0, result.stderr
    assert "Exporting Tiny to ONNX in fp32: kept from before" in result.stderr

    package = ("package", out, "--name", "tiny", *LOOSE, "--json")
    result = run(tmp_path, KILLED, "bundles", *package)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert not (tmp_path / "home" / "bundles" / "tiny").exists()
    result = run(tmp_path, PLAIN, *package)
    assert json.loads(result.stdout)["made"] is True
    Bundle.open(tmp_path / "home" / "bundles" / "tiny").verify_hashes()


@pytest.mark.parametrize("limit", [20_000, 150_000])
def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(
    folder: Path, tmp_path: Path, limit: int
) -> None:
    result = run(tmp_path, FULL, str(limit), "model", str(folder), "--json", *VARIANTS)
    assert result.returncode == 1, result.stderr
    assert "File too large" in json.loads(result.stdout)["error"]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "home" / "bundles" / "tiny").exists()
    parts = [path for path in tmp_path.rglob("*") if path.name.endswith((".part", ".old"))]
    assert parts == []
    assert finished(tmp_path) == []


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    from exporters.__main__ import main

    assert main([*arguments, "--json"]) == 1
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return str(told["error"])


@pytest.mark.parametrize("kept", [0.5, 0.9999])
def test_truncated_weights_are_told_before_any_work(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kept: float,
) -> None:
    monkeypatch.setenv("NSEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NSEDGE_HOME", str(tmp_path / "home"))
    folder = write_model_folder(tmp_path / "cut")
    weights = folder / "model.safetensors"
    raw = weights.read_bytes()
    weights.write_bytes(raw[: int(len(raw) * kept)])
    for command in (
        ("model", str(folder)),
        ("export", str(folder), "--out", str(tmp_path / "exported")),
    ):
        assert error(capsys, *command).endswith("model.safetensors is cut short; fetch it again")
    assert finished(tmp_path) == []
    assert not (tmp_path / "exported").exists()


def test_an_architecture_without_a_key_and_value_cache_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NSEDGE_CACHE", str(tmp_path / "cache"))
    folder = write_model_folder(tmp_path / "mamba")
    config = {"model_type": "mamba", "architectures": ["MambaForCausalLM"], "vocab_size": 320}
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": 2}))
    out = tmp_path / "exported"
    told = error(capsys, "export", str(folder), "--out", str(out))
    assert told.startswith("MambaForCausalLM ")
    assert not out.exists()
    assert finished(tmp_path) == []
