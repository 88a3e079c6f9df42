"""A first import never fails for a hair: the next better form is taken, and the report says why."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from exporters.__main__ import main
from exporters.measure.promise import Promise
from exporters.quantise import schemes, variant
from nsedge import native
from nsedge.bundle.manifest import Bundle
from tests.unit.exporters.gguf.small import tensors, write_small

pytestmark = [
    pytest.mark.export,
    pytest.mark.usefixtures("own_places"),
    pytest.mark.skipif(native.why_not() is not None, reason="no native operators here"),
]

UNEVEN, CONTRAST = 1000.0, 6.0
NEVER = 1e9


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose keys an 8-bit cache with a scale a token does not bear."""
    path = tmp_path_factory.mktemp("files") / "uneven.gguf"
    return write_small(path, tensors(outlier=UNEVEN, contrast=CONTRAST))


@pytest.fixture
def not_evened(own_places: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys stay as they are, in a cache of its own."""
    monkeypatch.setattr(variant, "WIDE", NEVER)
    monkeypatch.setenv("NSEDGE_CACHE", str(tmp_path / "cache"))


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == status
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def forms(bundle: str) -> list[str]:
    return [each.name for each in Bundle.open(Path(bundle)).manifest.variants]


def test_uneven_keys_are_evened_out_and_the_report_says_so(
    uneven: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = answer(capsys, "import-gguf", str(uneven))
    assert forms(made["bundle"]) == ["cpu-int8-b64-native", "cpu-int8-b64"]
    assert made["fidelity_native"]["kl"] < 0.01
    (note,) = made["notes"]
    assert "evens out keys" in note
    assert "in layers 0, 1: a channel was up to" in note
    assert note in (Path(made["bundle"]) / "report.md").read_text()
    assert answer(capsys, "verify", made["bundle"])["passed"] is True


@pytest.mark.usefixtures("not_evened")
def test_a_native_form_that_is_too_far_is_left_out(
    uneven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", str(tmp_path / "bundle"))
    made = answer(capsys, "import-gguf", str(uneven), *out)
    assert forms(made["bundle"]) == ["cpu-int8-b64"]
    assert not list(Path(made["bundle"]).rglob("native.onnx"))
    (note,) = made["notes"]
    assert note.startswith("cpu-int8-b64 without its native form: kl is 0.0")
    assert json.loads((tmp_path / "bundle" / "report.json").read_text())["notes"] == [note]
    assert main(["import-gguf", str(uneven), *out]) == 0
    assert f"note: {note}" in capsys.readouterr().out
    # A limit that somebody asked for is kept, or nothing is made.
    asked = ("--threshold", "kl=0.01", "--out", str(tmp_path / "other"))
    told = answer(capsys, "import-gguf", str(uneven), *asked, status=1)
    assert "not packaged: cpu-int8-b64-native: kl is 0.0" in told["error"]
    assert not (tmp_path / "other").exists()


def test_a_scheme_that_is_too_far_gives_way_to_a_better_one(
    uneven: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("int8-b64", "int8-b32"):
        strict = dataclasses.replace(schemes.SCHEMES[name], promise=Promise(kl=0.0, top1=1.0))
        monkeypatch.setitem(schemes.SCHEMES, name, strict)
    made = answer(capsys, "import-gguf", str(uneven), "--out", str(tmp_path / "bundle"))
    assert forms(made["bundle"]) == ["cpu-fp32"]
    assert [note.partition(": ")[0] for note in made["notes"]] == [
        "cpu-int8-b64 passed over",
        "cpu-int8-b32 passed over",
    ]
    # A scheme that somebody named is not exchanged for another.
    named = ("--scheme", "int8-b64", "--out", str(tmp_path / "named"))
    told = answer(capsys, "import-gguf", str(uneven), *named, status=1)
    assert "not packaged: cpu-int8-b64: kl is " in told["error"]
    # Nor where a limit that somebody asked for is what fails.
    asked = ("--threshold", "kl=0", "--threshold", "top1=1", "--out", str(tmp_path / "asked"))
    told = answer(capsys, "import-gguf", str(uneven), *asked, status=1)
    assert "not packaged: cpu-int8-b64-native: kl is " in told["error"]
