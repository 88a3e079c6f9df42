"""A model of texts and pictures through every door and on the command line: each tells what the
socket tells. Its weights are random."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.daemon import free_port
from nsedge.api import Media
from nsedge.ipc.client import Client
from nsedge.runtime.vision.levels import frame_of, pattern
from tests.integration.test_access_real import environment, up
from tests.unit.web.forms import FORM, form
from tests.web_server import ask

pytestmark = pytest.mark.integration

WITHIN_S = 120
LABELS = ("red square", "woman", "uniform")
PROMPT = "the photo of a {}"
LEVELS = pattern(2, 240, 320)


@dataclass(frozen=True, kw_only=True)
class Served:
    """A daemon with such a model: its home and its shim's port."""

    home: Path
    port: int
    model: str

    def asked(self, path: str, body: object = None, *parts: Any) -> Any:
        options: dict[str, Any] = {"raw": form(*parts), **FORM} if parts else {}

        async def within() -> Any:
            async with asyncio.timeout(WITHIN_S):
                return await ask(self.port, "POST", path, body, **options)

        answer = asyncio.run(within())
        assert answer.status == 200, (path, answer.body)
        return answer.json

    def command(self, *words: str) -> list[Any]:
        done = subprocess.run(
            [sys.executable, "-m", "nsedge", *words, "--json"],
            env=environment(self.home),
            capture_output=True,
            check=True,
            timeout=WITHIN_S,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def served(dual_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home, port = tmp_path_factory.mktemp("vision"), free_port()
    with up(home, NSEDGE_MODELS_LOAD=str(dual_encoder.resolve()), NSEDGE_WEB_PORT=str(port)):
        yield Served(home=home, port=port, model=dual_encoder.name)


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Client]:
    with Client(f"ipc://{served.home}/core.sock") as made:
        yield made


def file_of(kind: str) -> bytes:
    written = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(np.ascontiguousarray(LEVELS.transpose(1, 2, 0))).save(written, kind, **options)
    return written.getvalue()


@pytest.fixture(scope="module")
def wanted(served: Served, client: Client) -> dict[str, float]:
    """The likelihoods of LABELS, of a raw frame over the socket."""
    found = client.classify(served.model, frame_of(LEVELS), labels=LABELS, prompt=PROMPT)
    (labels,) = found.collected().labels
    scores = {one.label: one.score for one in labels}
    assert len(set(scores.values())) == len(LABELS)
    return scores


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_labels_are_the_same_at_every_door(
    kind: str, served: Served, wanted: dict[str, float], tmp_path: Path
) -> None:
    data, told = file_of(kind), f"image/{kind.lower()}"
    labels = [("labels", one.encode()) for one in LABELS]
    parts = ("image", data, told), *labels, ("prompt", PROMPT.encode())
    page = served.asked("/api/multimodal/vision/classify", None, *parts)
    assert {one["label"]: one["score"] for one in page["labels"]} == pytest.approx(wanted, abs=1e-6)
    assert page["label"] == max(wanted, key=wanted.__getitem__)

    url = f"data:{told};base64,{base64.b64encode(data).decode()}"
    body = {"model": served.model, "input": [{"image": url}], "labels": LABELS, "prompt": PROMPT}
    (one,) = served.asked("/v1/classify", body)["data"]
    scores = {label["label"]: label["score"] for label in one["predictions"]}
    assert scores == pytest.approx(wanted, abs=1e-6)

    (tmp_path / "picture").write_bytes(data)
    words = ["--image", str(tmp_path / "picture"), "--labels", *LABELS]
    (line,) = served.command("classify", served.model, *words, "--prompt", PROMPT)
    assert {label["label"]: label["score"] for label in line["labels"]} == pytest.approx(
        wanted, abs=1e-6
    )


def test_vectors_are_the_same_at_every_door(served: Served, client: Client, tmp_path: Path) -> None:
    data = file_of("PNG")
    inputs: list[str | Media] = [LABELS[0], Media(type="image/png", data=data)]
    vectors = client.embed(served.model, inputs).embeddings().array
    given = [{"text": LABELS[0]}, {"image": base64.b64encode(data).decode()}]
    page = served.asked("/v1/embeddings", {"model": served.model, "input": given})
    told = np.array([one["embedding"] for one in page["data"]], np.float32)
    assert np.abs(told - vectors).max() < 1e-6
    (tmp_path / "picture.png").write_bytes(data)
    words = [LABELS[0], "--image", str(tmp_path / "picture.png")]
    lines = served.command("embed", served.model, *words)
    found = np.array([line["embedding"] for line in lines], np.float32)
    assert np.abs(found - vectors).max() < 1e-5
