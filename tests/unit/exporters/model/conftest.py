"""A model folder to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.unit.exporters.model.source_folders import CONFIG, tokenizer, write_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "Tiny Model"
    path.mkdir()
    write_json(path / "config.json", CONFIG)
    write_json(path / "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>"})
    tokenizer().save(str(path / "tokenizer.json"))
    save_file(
        {"w": np.zeros((3, 5), np.float32), "b": np.zeros(4, np.float32)},
        path / "model.safetensors",
    )
    return path
