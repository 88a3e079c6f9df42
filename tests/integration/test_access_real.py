"""The real daemon behind keys: made by the command, asked for by both doors."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from bench.daemon import free_port
from nsedge.ipc.client import Client, ClientCurve, KeyPair, NsedgeError
from tests.unit.ipc.test_curve import free_port as free_pair

pytestmark = pytest.mark.integration


def nsedge(home: Path, *words: str, **variables: str) -> str:
    """What a command says, once it has ended well."""
    done = subprocess.run(
        [sys.executable, "-m", "nsedge", *words],
        env=environment(home, **variables),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def environment(home: Path, **variables: str) -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("NSEDGE_", "XDG_"))}
    settings = {"NSEDGE_HOME": str(home), "NSEDGE_ENDPOINT": f"ipc://{home}/core.sock"}
    return {**own, **settings, **variables}


@contextlib.contextmanager
def up(home: Path, **variables: str) -> Iterator[None]:
    """Core and shim, ready; ended by the core's own drain."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nsedge", "up", "--json"],
        env=environment(home, **variables),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = {json.loads(process.stdout.readline())["process"] for _ in range(2)}
        assert ready == {"serve", "web"}
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_both_doors_ask_for_what_nsedge_keys_made(starter_bundle: Path, tmp_path: Path) -> None:
    secret = nsedge(tmp_path, "keys", "add", "laptop")
    server_key = nsedge(tmp_path, "keys", "server")
    nsedge(tmp_path, "keys", "client", "tablet")
    folder, port, tcp = tmp_path / "keys", free_port(), f"tcp://127.0.0.1:{free_pair()}"
    ring = str(folder / "keys.json")
    served = {
        "NSEDGE_MODELS_LOAD": str(starter_bundle.resolve()),
        "NSEDGE_WEB_KEYS": ring,
        "NSEDGE_WEB_PORT": str(port),
        "NSEDGE_CORE_TCP_ENDPOINT": tcp,
        "NSEDGE_CORE_CURVE_SECRET": str(folder / "core.key_secret"),
        "NSEDGE_CORE_CURVE_CLIENTS": ring,
    }
    with up(tmp_path, **served):
        base = f"http://127.0.0.1:{port}/v1"
        with openai.OpenAI(base_url=base, api_key=secret) as known:
            model = known.models.list().data[0].id
            asked = [{"role": "user", "content": "Name the capital of France."}]
            answer = known.chat.completions.create(model=model, messages=asked, temperature=0)
            assert "Paris" in (answer.choices[0].message.content or "")
        with (
            openai.OpenAI(base_url=base, api_key="none") as stranger,
            pytest.raises(openai.AuthenticationError),
        ):
            stranger.models.list()
        remote = {
            "NSEDGE_ENDPOINT": tcp,
            "NSEDGE_CLIENT_CURVE_SECRET": str(folder / "tablet.key_secret"),
            "NSEDGE_CLIENT_SERVER_KEY": server_key,
        }
        said = nsedge(tmp_path, "run", "--temperature", "0", model, asked[0]["content"], **remote)
        assert "Paris" in said
        with pytest.raises(NsedgeError):
            Client(tcp, connect_timeout_s=1.0)
        pair = KeyPair.make(tmp_path / "stranger.key_secret")
        with pytest.raises(NsedgeError, match="does not let this CURVE key in"):
            Client(tcp, curve=ClientCurve(pair=pair, server_key=server_key))


def test_no_path_of_a_client_is_a_model(starter_bundle: Path, tmp_path: Path) -> None:
    bundle, port = starter_bundle.resolve(), free_port()
    served = {"NSEDGE_MODELS_LOAD": str(bundle), "NSEDGE_WEB_PORT": str(port)}
    paths = (str(bundle), f"../{bundle.name}", "/etc/passwd", "../../../../etc/passwd", "%2e%2e")
    with (
        up(tmp_path, **served),
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as client,
    ):
        for path in paths:
            with pytest.raises(openai.NotFoundError, match="model"):
                client.completions.create(model=path, prompt="x", max_tokens=1)


def test_an_open_door_needs_to_be_asked_for_in_so_many_words(tmp_path: Path) -> None:
    for words, told in (
        (["web", "--host", "0.0.0.0"], "no key is asked for"),
        (["serve", "--tcp-endpoint", "tcp://0.0.0.0:5555"], "nothing is encrypted"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "nsedge", *words],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        assert told in done.stderr
