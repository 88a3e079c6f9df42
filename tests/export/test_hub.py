"""A hub id is fetched through huggingface_hub, here from a small hub of our own on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nsedge.bundle.caption import Caption
from nsedge.bundle.encoder import Encoder
from nsedge.bundle.manifest import Bundle
from tests.export.tiny import NEXT, write_model_folder
from tests.export.tiny_captioner import write_captioner_folder
from tests.export.tiny_encoders import set_pooling, write_encoder_folder

pytestmark = pytest.mark.export

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "org/Tiny"
PINNED = (REPOSITORY, "--revision", "v1", "--scheme", "fp32")
BYTES = "application/octet-stream"
TOKEN = "hf_thisisasecretofsomebody"
EXTRA = {
    "consolidated.safetensors": b"twice",
    "original/weights.bin": b"old",
    "notes.txt": b"-",
    "onnx/config.json": b"{}",
    "onnx/1_Pooling/config.json": b"{}",
    "2_Other/model.safetensors": b"a head",
}


class Hub(ThreadingHTTPServer):
    """As much of the hub's interface as fetching one repository takes."""

    def __init__(self, folder: Path, repository: str = REPOSITORY) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        own = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        self.repository = repository
        self.files = own | EXTRA
        self.served: list[str] = []
        self.tokens: set[str | None] = set()
        self.breaks: set[str] = set()
        """Files whose answers end in the middle."""
        self.ranges: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def _entry(path: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": digest}


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.tokens.add(self.headers.get("Authorization"))
        repository = self.server.repository
        revisions = [f"/api/models/{repository}/revision/{one}" for one in ("v1", "main", COMMIT)]
        if path in (*revisions, f"/api/models/{repository}"):
            names = [{"rfilename": name} for name in self.server.files]
            told = {"id": repository, "sha": COMMIT, "siblings": names, "tags": []}
            self._send(json.dumps(told).encode(), with_body, kind="application/json")
            return
        if path == f"/api/models/{repository}/tree/{COMMIT}":
            listed = [_entry(name, content) for name, content in self.server.files.items()]
            self._send(json.dumps(listed).encode(), with_body, kind="application/json")
            return
        name = path.removeprefix(f"/{repository}/resolve/{COMMIT}/")
        if name not in self.server.files:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            return
        if with_body:
            self.server.served.append(name)
        if with_body and name in self.server.breaks:
            self._send(self.server.files[name], with_body, kind=BYTES, broken=True)
            return
        self._send(self.server.files[name], with_body, kind=BYTES)

    def _send(self, body: bytes, with_body: bool, *, kind: str, broken: bool = False) -> None:
        wanted, begin = self.headers.get("Range"), 0
        if wanted is not None:
            self.server.ranges.append(wanted)
            begin = int(wanted.removeprefix("bytes=").partition("-")[0])
        self.send_response(200 if wanted is None else 206)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) - begin))
        if wanted is not None:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.end_headers()
        if with_body:
            self.wfile.write(body[begin : len(body) // 2 if broken else None])
        self.close_connection = broken

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with serving(write_model_folder(tmp_path_factory.mktemp("hub") / "Tiny")) as server:
        yield server


@contextmanager
def serving(folder: Path, *, repository: str = REPOSITORY) -> Iterator[Hub]:
    """A hub whose repository holds what is in `folder`."""
    server = Hub(folder, repository)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def export(place: Path, endpoint: str, *arguments: str, **changes: str) -> Any:
    """Make a bundle of a model on the hub."""
    return run(place, endpoint, "model", *arguments, "--json", **changes)


def run(place: Path, endpoint: str, *arguments: str, **changes: str) -> Any:
    """Run the command in a process of its own: the hub's library reads its settings once."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(place / "hub"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NSEDGE_CACHE": str(place / "cache"),
        "NSEDGE_HOME": str(place / "home"),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join(sys.path),
        **changes,
    }
    command = [sys.executable, "-m", "exporters", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_hub_id_becomes_a_bundle_and_works_offline_after(hub: Hub, tmp_path: Path) -> None:
    result = export(tmp_path, hub.endpoint, REPOSITORY, "--revision", "v1", "--scheme", "fp32")
    assert result.returncode == 0, result.stderr
    bundle = Bundle.open(tmp_path / "home" / "bundles" / "tiny")
    provenance = bundle.manifest.provenance
    assert (provenance.source, provenance.revision) == (REPOSITORY, COMMIT)
    assert provenance.licence == "MIT"
    assert "model.safetensors" in hub.served
    assert not set(EXTRA) & set(hub.served)

    offline = export(
        tmp_path,
        hub.endpoint,
        REPOSITORY,
        "--revision",
        "v1",
        "--scheme",
        "fp32",
        HF_HUB_OFFLINE="1",
    )
    assert json.loads(offline.stdout)["made"] is False


def test_of_a_pipeline_its_parts_are_fetched_and_nothing_else(tmp_path: Path) -> None:
    wanted = (
        *("model_index.json", "README.md", "unet/config.json", "vae/model.safetensors"),
        *("tokenizer/merges.txt", "tokenizer_2/vocab.json", "scheduler/scheduler_config.json"),
    )
    others = (
        "v1-5-pruned.safetensors",
        "unet/model.fp16.safetensors",
        "safety_checker/config.json",
    )
    for name in (*wanted, *others):
        path = tmp_path / "sd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"name": name}))
    with serving(tmp_path / "sd") as hub:
        refused = export(tmp_path, hub.endpoint, REPOSITORY)
    assert refused.returncode == 1
    assert "model_index.json: None has no form here" in refused.stderr
    assert set(wanted) <= set(hub.served)
    assert not {*others, "consolidated.safetensors", "notes.txt"} & set(hub.served)


def test_modules_of_sentence_transformers_come_with_an_encoder(tmp_path: Path) -> None:
    folder = write_encoder_folder(tmp_path / "encoder")
    set_pooling(folder, "cls_token")  # another way than that of a folder without modules
    with serving(folder) as hub:
        result = export(tmp_path, hub.endpoint, *PINNED)
    assert result.returncode == 0, result.stderr
    assert "1_Pooling/config.json" in hub.served
    assert not set(EXTRA) & set(hub.served)
    manifest = Bundle.open(tmp_path / "home" / "bundles" / "tiny").of_kind(Encoder).manifest
    assert (manifest.pooling, manifest.normalised) == ("cls", True)


CAPTIONER = "nlpconnect/vit-gpt2-image-captioning"
LIMITS = ("kl=0.2", "top1=0.5", "golden=0.3")


@pytest.mark.parametrize("pickled", [False, True])
def test_a_captioner_comes_by_its_name_with_weights_of_either_form(
    tmp_path: Path, pickled: bool
) -> None:
    folder = write_captioner_folder(tmp_path / "captioner")
    if pickled:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    limits = [word for limit in LIMITS for word in ("--threshold", limit)]
    with serving(folder, repository=CAPTIONER) as hub:
        result = export(tmp_path, hub.endpoint, CAPTIONER, *limits)
    assert result.returncode == 0, result.stderr
    assert ("pytorch_model.bin" in hub.served) == pickled
    bundle = Bundle.open(tmp_path / "home" / "bundles" / "vit-gpt2-image-captioning")
    manifest = bundle.of_kind(Caption).manifest
    provenance = manifest.provenance
    assert (provenance.source, provenance.revision) == (CAPTIONER, COMMIT)
    assert provenance.licence == "Apache-2.0"
    assert manifest.search.beams == 4


def test_a_captioners_pickle_that_is_more_than_tensors_is_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Odd:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "run",))

    folder = write_captioner_folder(tmp_path / "captioner")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Odd()}))
    result = export(tmp_path, "http://127.0.0.1:9", str(folder))
    assert result.returncode == 1
    assert "it cannot be read as tensors alone" in json.loads(result.stdout)["error"]
    assert not (tmp_path / "run").exists()


def test_a_token_goes_to_the_hub_and_into_nothing_that_is_kept(hub: Hub, tmp_path: Path) -> None:
    result = export(tmp_path, hub.endpoint, *PINNED, HF_TOKEN=TOKEN)
    assert result.returncode == 0, result.stderr
    assert f"Bearer {TOKEN}" in hub.tokens
    assert TOKEN not in result.stdout + result.stderr
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert [path for path in kept if TOKEN.encode() in path.read_bytes()] == []


def break_off(hub: Hub, place: Path) -> None:
    """Begin to fetch the model from a hub that closes the connection in the middle of a file."""
    hub.breaks.add("model.safetensors")
    result = export(place, hub.endpoint, *PINNED)
    hub.breaks.clear()
    assert result.returncode == 1
    assert json.loads(result.stdout)["error"].startswith(f"{REPOSITORY}: ")
    assert "Traceback" not in result.stderr


def test_a_download_that_breaks_off_is_told_in_one_line(hub: Hub, tmp_path: Path) -> None:
    break_off(hub, tmp_path)


@pytest.mark.skipif(NEXT, reason="huggingface_hub 2 begins a file anew in a new process")
def test_a_download_that_broke_off_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    break_off(hub, tmp_path)
    half = len(hub.files["model.safetensors"]) // 2
    # The hub's library keeps whole pieces of 10 MB: here is what it would have of a larger file.
    (begun,) = (tmp_path / "hub").rglob("*.incomplete")
    begun.write_bytes(hub.files["model.safetensors"][:half])
    hub.served.clear()
    result = export(tmp_path, hub.endpoint, *PINNED)
    assert result.returncode == 0, result.stderr
    assert hub.served == ["model.safetensors"]
    assert f"bytes={half}-" in hub.ranges


def test_a_hub_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    result = export(tmp_path, "http://127.0.0.1:9", "org/absent")
    assert result.returncode == 1
    assert "the hub cannot be reached" in json.loads(result.stdout)["error"]
    assert "Traceback" not in result.stderr


def test_a_model_the_hub_does_not_have_is_told_in_one_line(hub: Hub, tmp_path: Path) -> None:
    result = export(tmp_path, hub.endpoint, "org/absent")
    assert result.returncode == 1
    assert json.loads(result.stdout)["error"].startswith("org/absent: ")
    assert "Traceback" not in result.stderr
