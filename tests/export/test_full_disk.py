"""A disk that is full while a model of any kind is exported: one line, and nothing half made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from exporters.__main__ import main
from tests.export.tiny_captioner import write_captioner_folder
from tests.export.tiny_dual_encoders import write_dual_folder
from tests.export.tiny_encoders import write_encoder_folder
from tests.export.tiny_heads import HEADS, write_head_folder
from tests.export.tiny_whisper import write_whisper_folder
from tests.full_disk import no_file_beyond

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]

FOLDERS: dict[str, Callable[[Path], Path]] = {
    "speech": write_whisper_folder,
    "captions": write_captioner_folder,
    "pictures": write_dual_folder,
    "embeddings": write_encoder_folder,
    **{head: lambda folder, head=head: write_head_folder(folder, "bert", head) for head in HEADS},
}
LIMIT = 2_000
"""Bytes of a file: too few for a graph, its weights and a manifest."""


def half_made(places: Path) -> list[Path]:
    return [path for path in places.rglob("*") if path.name.endswith((".part", ".old"))]


@pytest.mark.parametrize("kind", FOLDERS)
def test_it_is_told_in_one_line_and_leaves_nothing(
    kind: str, places: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the first stage, and in each later one, of which alone nothing is kept from before."""
    folder, name = FOLDERS[kind](tmp_path / "model"), kind.lower()
    bundle = places / "home" / "bundles" / name
    command = ["model", str(folder), "--name", name, "--variants", "cpu-fp32", "--json"]

    def fails() -> None:
        with no_file_beyond(LIMIT):
            status = main(command)
        said = capsys.readouterr()
        assert status == 1
        error = json.loads(said.out)["error"]
        assert "File too large" in error
        assert "\n" not in error
        assert "Traceback" not in said.err
        assert half_made(places) == []
        assert not bundle.exists()

    fails()
    assert main(command) == 0
    capsys.readouterr()
    for stage in sorted((places / "cache").iterdir()):
        shutil.rmtree(stage)
        shutil.rmtree(bundle)
        fails()
        assert main(command) == 0
        capsys.readouterr()
