"""Model folders that PyTorch would fill up, cut down or choke on are refused in a line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from exporters.__main__ import main
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.vocabulary import check_vocabulary
from tests.export.tiny import VOCABULARY, write_model_folder

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("own_places")]

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_folder(tmp_path_factory.mktemp("models") / "whole")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "odd"))


def config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def weights(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return write


def a_token_more(folder: Path) -> None:
    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    names = [f"<{n}>" for n in range(VOCABULARY - tokenizer.get_vocab_size() + 1)]
    tokenizer.add_tokens(names)
    tokenizer.save(path)


NORM = "model.layers.1.input_layernorm.weight"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (weights(lambda t: t.pop(NORM)), f"the weights '{NORM}' are missing"),
        (
            weights(lambda t: t.update({"model.layers.1.mlp.gate.weight": np.ones((2, 2))})),
            "the weights 'model.layers.1.mlp.gate.weight' are none of this architecture's",
        ),
        (weights(lambda t: t.update({NORM: np.ones(7, np.float32)})), "cannot be loaded: "),
        (config(intermediate_size=64), "cannot be loaded: "),
        (config(num_hidden_layers=1), "'model.layers.1.input_layernorm.weight', "),
        (config(num_hidden_layers=3), "'model.layers.2.input_layernorm.weight', "),
        (config(rope_scaling={"rope_type": "twisted"}), "twisted"),
        (config(rope_scaling={"rope_type": "linear", "factor": "two"}), "odd"),
        (config(hidden_act="no_such_act"), "no_such_act"),
        (config(max_position_embeddings="long"), "max_position_embeddings must be a whole number"),
        (config(vocab_size=-1), "vocab_size must be a whole number above 0, not -1"),
        (config(model_type="\x1b[31m"), r"architecture (\x1b[31m)"),
        (a_token_more, f"the tokenizer knows {VOCABULARY} '<"),
    ],
)
def test_it_is_refused_and_nothing_is_made_up(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    reason: str,
) -> None:
    damage(folder)
    out = tmp_path / "bundle"
    assert main(["model", str(folder), "--out", str(out), "--json"]) == 1
    captured = capsys.readouterr()
    told = json.loads(captured.out)["error"]
    assert reason in told
    assert len(told) < 600
    assert "Traceback" not in captured.err
    assert not out.exists()


def test_surplus_tokens_are_left_out_where_that_is_asked_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_token_more(folder)
    options = ("--out", str(tmp_path / "bundle"), "--json", "--drop-surplus-tokens")
    assert main(["model", str(folder), *options]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert note.startswith("left out of the tokenizer, as there are no rows for them: '<")
    check_vocabulary(Bundle.open(tmp_path / "bundle"))
