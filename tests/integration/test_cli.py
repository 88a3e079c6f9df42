"""The command line over the real model: processes, signals and exit statuses."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporters.bundle.starter import NAME as STARTER
from nsedge.cli.exits import ExitStatus

pytestmark = pytest.mark.integration
LIMIT_S = 120


@dataclass(frozen=True, kw_only=True)
class Place:
    """A configuration of its own: files, endpoint and environment."""

    folder: Path
    environ: dict[str, str]

    @property
    def endpoint(self) -> str:
        return f"ipc://{self.folder}/core.sock"

    def nsedge(self, *words: str, **kwargs) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [sys.executable, "-m", "nsedge", *words]
        return subprocess.run(
            command, env=self.environ, capture_output=True, text=True, timeout=LIMIT_S, **kwargs
        )

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command; ended with the block."""
        command = [sys.executable, "-m", "nsedge", *words]
        process = subprocess.Popen(
            command,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGKILL)

    @contextmanager
    def up(self) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """`nsedge up` on a free port; yields the process and the shim's address when ready."""
        with self.running("up", "--port", "0", "--log-level", "error") as process:
            said = dict(process.stdout.readline().split(maxsplit=1) for _ in range(2))
            assert set(said) == {"serve", "web"}, said
            assert said["serve"].strip() == f"{self.endpoint}: {STARTER}"
            yield process, said["web"].strip()


@pytest.fixture
def place(tmp_path, starter_bundle):
    return make_place(tmp_path, starter_bundle)


def make_place(folder: Path, bundle: Path) -> Place:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("NSEDGE_")}
    environ |= {
        "NSEDGE_HOME": str(folder),
        "NSEDGE_ENDPOINT": f"ipc://{folder}/core.sock",
        "NSEDGE_MODELS_LOAD": str(bundle),
        "NSEDGE_ENGINE_SLOTS": "2",
        "NSEDGE_ENGINE_CONTEXT_TOKENS": "512",
    }
    return Place(folder=folder, environ=environ)


def fetch(url: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def asked(place: Place, *words: str) -> list[dict]:
    done = place.nsedge("run", "--json", STARTER, "--temperature", "0", *words)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_up_serves_both_doors_and_ends_clean(place):
    with place.up() as (process, url):
        events = asked(place, "--max-tokens", "12", "Name the capital of France.")
        assert "Paris" in "".join(event.get("text", "") for event in events)
        assert events[-1]["usage"]["completion_tokens"] <= 12
        assert events[-1]["seen"]["first_token_s"] > 0
        assert fetch(f"{url}/v1/models")[1]["data"][0]["id"] == STARTER

        place.environ["NSEDGE_WEB_PORT"] = url.rpartition(":")[2]
        doctor = place.nsedge("doctor", "--json")
        report = json.loads(doctor.stdout)
        assert doctor.returncode == 0, report
        details = " ".join(check["detail"] for check in report["checks"])
        assert "CPUExecutionProvider" in details
        assert "whole" in details

        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 0
    assert place.nsedge("models").returncode == ExitStatus.UNAVAILABLE
    assert [path for path in place.folder.iterdir() if path.is_socket()] == []
    with pytest.raises(OSError):
        fetch(f"{url}/live")


def test_an_answer_is_held_to_a_form(place):
    schema = place.folder / "schema.json"
    schema.write_text('{"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 2}')
    with place.up():
        said = asked(place, "--json-schema", str(schema), "Which colours are there?")
        assert set(json.loads("".join(event.get("text", "") for event in said))) <= {"red", "blue"}
        assert said[-1]["reason"] == "stop"
        picked = asked(place, "--choice", "yes", "--choice", "no", "Is it?")
        assert "".join(event.get("text", "") for event in picked) in ("yes", "no")
        schema.write_text('{"type": "colour"}')
        done = place.nsedge("run", STARTER, "--json-schema", str(schema), "x")
        assert done.returncode == ExitStatus.USAGE
        assert "constraint (json_schema): " in done.stderr


def test_the_readmes_client_works(place):
    readme = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
    example = readme.partition("```python\n")[2].partition("```")[0]
    assert 15 <= example.count("\n") <= 20
    with place.up():
        done = subprocess.run(
            [sys.executable, "-c", example],
            env=place.environ,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"served: {STARTER}\n")
    assert re.search(r"\n\d+ tokens, (stop|length)\n$", done.stdout)


def test_ctrl_c_cancels_and_the_slot_is_free_again(place):
    with place.up():
        words = ("run", STARTER, "--max-tokens", "450", "--ignore-eos", "Tell a long story.")
        with place.running(*words) as process:
            assert process.stdout.read(1)
            process.send_signal(signal.SIGINT)
            said = process.stdout.read()
            assert process.wait(LIMIT_S) == ExitStatus.INTERRUPTED
        assert said.endswith("cancelled\n")
        stats = json.loads(place.nsedge("stats", "--json").stdout)["models"][STARTER]
        assert (stats["running"], stats["waiting"]) == (0, 0)
        assert stats["finished"] == {"cancelled": 1}


def test_a_child_that_dies_takes_the_other_along(place):
    with place.up() as (process, url):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        core = next(
            pid for pid in children if b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(int(core), signal.SIGKILL)
        assert process.wait(LIMIT_S) == 128 + signal.SIGKILL
        assert "serve  ended by itself with status 137" in process.stdout.read()
    with pytest.raises(OSError):
        fetch(f"{url}/live")


def test_killing_up_leaves_no_orphans(place):
    with place.up() as (process, url):
        process.kill()
        assert process.wait(LIMIT_S) == -signal.SIGKILL
        process.stdout.read()  # ends when the last child has closed its end
    assert place.nsedge("models").returncode == ExitStatus.UNAVAILABLE
    with pytest.raises(OSError):
        fetch(f"{url}/live")


def test_two_instances_run_side_by_side(tmp_path, starter_bundle):
    places = [make_place(tmp_path / name, starter_bundle) for name in ("a", "b")]
    for each in places:
        each.folder.mkdir()
    with places[0].up() as (_, first), places[1].up() as (_, second):
        assert first != second
        texts = [
            "".join(event.get("text", "") for event in asked(each, "--max-tokens", "8", "Count."))
            for each in places
        ]
        assert texts[0] == texts[1] != ""


def test_a_second_core_at_the_same_endpoint_is_refused(place):
    with place.up():
        second = place.nsedge("serve")
        assert second.returncode == ExitStatus.USAGE
        assert "another daemon listens at" in second.stderr
        assert second.stderr.count("\n") == 1
        assert place.nsedge("models").returncode == 0


def test_a_port_that_is_taken_is_told(place):
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = str(door.getsockname()[1])
        web = place.nsedge("web", "--port", port)
    assert web.returncode == ExitStatus.USAGE
    assert f"127.0.0.1:{port}" in web.stderr
    assert "Traceback" not in web.stderr


def until(process: subprocess.Popen[str], message: str) -> dict:
    """The first line of a JSON log that says `message`."""
    for line in process.stdout:
        told = json.loads(line)
        if told.get("message") == message:
            return told
    return pytest.fail(f"the log ended before {message!r}")


def test_the_shim_waits_for_a_core_that_comes_later(place):
    with place.running("web", "--port", "0", "--json") as web:
        address = until(web, "listening")["address"]
        assert fetch(f"{address}/health")[0] == 503
        with place.running("serve", "--json") as core:
            assert until(core, "ready")["models"] == STARTER
            until(web, "connected")
            assert fetch(f"{address}/health")[0] == 200
        web.send_signal(signal.SIGTERM)
        assert web.wait(LIMIT_S) == 0


def test_a_damaged_bundle_is_refused_by_name(place, starter_bundle):
    damaged = place.folder / "bundles" / "damaged"
    damaged.mkdir(parents=True)
    for path in starter_bundle.rglob("*"):
        if path.is_file():
            to = damaged / path.relative_to(starter_bundle)
            to.parent.mkdir(exist_ok=True)
            to.symlink_to(path)
    tokenizer = damaged / "tokenizer.json"
    text = tokenizer.read_bytes()
    tokenizer.unlink()
    tokenizer.write_bytes(text[:1000])
    place.environ["NSEDGE_MODELS_LOAD"] = "damaged"
    refused = place.nsedge("serve")
    assert refused.returncode == ExitStatus.FAILURE
    assert str(tokenizer) in refused.stderr
    assert "Traceback" not in refused.stderr
    doctor = place.nsedge("doctor")
    assert doctor.returncode == ExitStatus.FAILURE
    assert "export it anew" in doctor.stdout


def test_prompts_never_reach_the_log(place):
    secret = "zebra-quartz-7"
    with place.running("serve", "--log-level", "debug") as core:
        while "ready" not in core.stdout.readline():
            assert core.poll() is None
        asked(place, "--max-tokens", "4", f"Remember {secret}.")
        core.send_signal(signal.SIGTERM)
        log = core.stdout.read()
        assert core.wait(LIMIT_S) == 0
    assert "draining" in log
    assert secret not in log
