"""Deploying models of every kind into the real daemon, while it answers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exporters.__main__ import main
from exporters.deploy.store import examine
from nsedge.api import LoadWish, ModelState, Sampling
from nsedge.bundle.files import MANIFEST_FILE, sha256_of
from nsedge.ipc.client import AsyncClient, Client, Finished, Started
from tests.faults.kinds import KINDS
from tests.faults.site import gather
from tests.full_disk import no_file_beyond
from tests.ipc import short_directory
from tests.unit.exporters.deploy.deployable import Home

pytestmark = pytest.mark.integration
LIMIT_S = 120
ENDLESS = Sampling(temperature=0.0, ignore_eos=True)
"""As many tokens as the context holds: longer than a deployment takes."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A daemon's home of its own."""

    home: Home
    settings: Path

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """`nsedge serve`, until it takes requests; asked to stop at the end."""
        words = [sys.executable, "-m", "nsedge", "--config", str(self.settings), "serve"]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            try:
                for line in process.stderr:
                    if "nsedge.core: ready" in line:
                        break
                assert process.poll() is None
                yield
            finally:
                process.terminate()
                process.communicate(timeout=LIMIT_S)


@pytest.fixture
def export(capsys: pytest.CaptureFixture[str], place: Place) -> Callable[..., dict[str, Any]]:
    """Runs nsedge-export; what it answers, and its exit status under "status"."""

    def run(*words: object) -> dict[str, Any]:
        status = main([*map(str, words), "--config", str(place.settings), "--json"])
        return {**json.loads(capsys.readouterr().out), "status": status}

    return run


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in [name for name in os.environ if name.startswith("NSEDGE_")]:
        monkeypatch.delenv(name)
    with short_directory() as folder:
        settings = folder / "nsedge.toml"
        settings.write_text(
            f'home = "{folder}"\n[core]\nendpoint = "ipc://{folder}/core.sock"\n'
            "[engine]\nslots = 4\ncontext_tokens = 8192\n",
            encoding="utf-8",
        )
        yield Place(home=Home(folder), settings=settings)


def version(starter: Path, path: Path, *, created: str, **changes: Any) -> Path:
    """The starter's bundle, made at another moment."""
    path.mkdir()
    manifest = json.loads((starter / MANIFEST_FILE).read_text(encoding="utf-8"))
    for name in manifest["files"]:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        os.link((starter / name).resolve(), path / name)
    manifest["provenance"]["created"] = created
    manifest |= changes
    (path / MANIFEST_FILE).write_text(json.dumps(manifest), encoding="utf-8")
    return path


def spoil_golden(bundle: Path) -> None:
    """Make the golden prompts wrong that the daemon does not look at as it loads."""
    golden = json.loads((bundle / "golden.json").read_text(encoding="utf-8"))
    for prompt in golden[2:]:
        prompt["continuation_ids"].reverse()
    (bundle / "golden.json").unlink()  # a link to the starter's
    (bundle / "golden.json").write_text(json.dumps(golden), encoding="utf-8")
    manifest = json.loads((bundle / MANIFEST_FILE).read_text(encoding="utf-8"))
    entry = manifest["files"]["golden.json"]
    entry["sha256"] = sha256_of(bundle / "golden.json")
    entry["bytes"] = (bundle / "golden.json").stat().st_size
    (bundle / MANIFEST_FILE).write_text(json.dumps(manifest), encoding="utf-8")


def test_requests_end_on_the_version_that_they_began_on(
    starter_bundle: Path, place: Place, export: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    one = version(starter_bundle, tmp_path / "one", created="2026-01-01T00:00:00Z")
    two = version(
        starter_bundle,
        tmp_path / "two",
        created="2026-01-02T00:00:00Z",
        generation_defaults={"temperature": 0.0},
    )
    bad = version(starter_bundle, tmp_path / "bad", created="2026-01-03T00:00:00Z")
    spoil_golden(bad)
    old, new = examine(one).served, examine(two).served
    assert export("deploy", one, "--as", "assistant", "--offline", "--link")["status"] == 0
    with place.daemon(), Client(place.home.endpoint) as client:
        (first,) = client.models()
        assert (first.name, first.state) == (old, ModelState.READY), "as it was said before"
        failed = export("deploy", bad, "--as", "assistant", "--link")
        assert failed["status"] == 1
        assert failed["error"].startswith("try out failed: ")
        assert f"assistant still stands for {old}" in failed["error"]

        stream = client.generate("assistant", "Once upon a time", sampling=ENDLESS)
        assert isinstance(next(stream), Started)
        deployed = export("deploy", two, "--as", "assistant", "--link")
        assert (deployed["model"], deployed["previous"]) == (new, old)
        assert deployed["golden"]["agreed"] >= 0.9 * deployed["golden"]["tokens"]
        begun = client.stats().models[old]
        assert begun.running == 1
        events = [*client.generate("assistant", "Twice", sampling=Sampling(max_tokens=8))]
        assert isinstance(events[-1], Finished)
        stats = client.stats().models
        assert stats[new].completion_tokens >= deployed["golden"]["tokens"] + 8
        assert stats[old].running == 1
        assert stats[old].completion_tokens > begun.completion_tokens, "it went on meanwhile"
        stream.cancel()
        assert isinstance(list(stream)[-1], Finished)

        assert export("rollback", "assistant")["model"] == old
        client.load(LoadWish(model="assistant"))
        aliases = {one.name: one.aliases for one in client.models()}
        assert aliases == {old: ("assistant",), new: ()}


@pytest.mark.parametrize("name", [name for name in KINDS if name != "text"])
def test_every_kind_is_deployed_and_rolled_back_and_a_full_disk_leaves_nothing(
    name: str,
    request: pytest.FixtureRequest,
    place: Place,
    export: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    kind = KINDS[name]
    made = kind.bundle(request)
    one = version(made, tmp_path / "one", created="2026-01-01T00:00:00Z")
    two = version(made, tmp_path / "two", created="2026-01-02T00:00:00Z")

    async def ask() -> None:
        async with AsyncClient(place.home.endpoint) as client:
            assert isinstance((await gather(kind.ask(client, made)))[-1], Finished)

    old, new = examine(one).served, examine(two).served
    assert export("deploy", one, "--as", made.name, "--offline", "--link")["status"] == 0
    with place.daemon(), Client(place.home.endpoint) as client:
        asyncio.run(ask())
        with no_file_beyond(4096):
            failed = export("deploy", two, "--as", made.name)
        assert failed["status"] == 1
        assert failed["error"].startswith("copy failed: ")
        assert "File too large" in failed["error"]
        assert place.home.stored() == [examine(one).folder]
        deployed = export("deploy", two, "--as", made.name, "--link")
        assert (deployed["status"], deployed["model"], deployed["previous"]) == (0, new, old)
        asyncio.run(ask())
        assert export("rollback", made.name)["model"] == old
        asyncio.run(ask())
        aliases = {one.name: one.aliases for one in client.models()}
        assert aliases == {old: (made.name,), new: ()}
