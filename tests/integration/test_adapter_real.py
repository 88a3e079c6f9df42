"""An adapter on the real model, through both doors. Its matrices are random: it changes what the
model says, and nothing is claimed of the sense of that."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from exporters.__main__ import main
from exporters.bundle.starter import NAME as STARTER
from tests.integration.test_cli import Place, make_place

pytestmark = pytest.mark.integration

LAYERS, HIDDEN, KEYS, RANK = 30, 576, 192, 4
SPREAD = 0.15
QUESTION = "Name three colours."


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """A folder as PEFT writes it."""
    random = np.random.default_rng(7)
    weights = {}
    for layer in range(LAYERS):
        for module, width in (("q_proj", HIDDEN), ("v_proj", KEYS)):
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            for side, shape in (("A", (RANK, HIDDEN)), ("B", (width, RANK))):
                matrix = random.normal(0.0, SPREAD, shape).astype(np.float32)
                weights[f"{name}.lora_{side}.weight"] = matrix
    folder = tmp_path / "lora"
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": STARTER,
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": ["q_proj", "v_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture
def place(tmp_path: Path, starter_bundle: Path) -> Place:
    return make_place(tmp_path, starter_bundle)


def over_http(url: str, model: str) -> tuple[int, dict[str, Any]]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 16,
        "temperature": 0,
    }
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def said(url: str, model: str) -> str:
    status, answer = over_http(url, model)
    assert status == 200, answer
    text: str = answer["choices"][0]["message"]["content"]
    return text


def over_zeromq(place: Place, model: str) -> str:
    words = ("run", "--json", model, "--temperature", "0", "--max-tokens", "16", QUESTION)
    done = place.nsedge(*words)
    assert done.returncode == 0, done.stderr
    events = map(json.loads, done.stdout.splitlines())
    return "".join(event.get("text", "") for event in events)


def test_base_and_adapter_over_both_doors(
    place: Place, lora: Path, starter_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = place.folder / "bundles" / f"{STARTER}+odd"
    command = ["adapter", str(starter_bundle), str(lora), "--name", "odd", "--out", str(out)]
    assert main(command) == 0, capsys.readouterr().err
    odd = f"{STARTER}:odd"
    with place.up() as (_, url):
        plain = said(url, STARTER)
        changed = said(url, odd)
        assert changed != plain
        assert over_zeromq(place, odd) == changed
        assert said(url, STARTER) == over_zeromq(place, STARTER) == plain
        with urllib.request.urlopen(f"{url}/v1/models", timeout=10) as answer:
            parents = {one["id"]: one["parent"] for one in json.load(answer)["data"]}
        assert parents == {STARTER: None, odd: STARTER}
        status, refused = over_http(url, f"{STARTER}:even")
        assert status == 404
        assert refused["error"]["code"] == "model_not_found"
        assert "no adapter 'even'" in refused["error"]["message"]
