"""The installed units under a real systemd: they start, answer, drain, reload, hang and recover."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.systemd.machine import Machine

pytestmark = pytest.mark.systemd
MODEL = "smollm2-135m-instruct"
NSEDGE = "/opt/nsedge/bin/nsedge"
ENDPOINT = {"NSEDGE_ENDPOINT": "ipc:///run/nsedge/nsedge.sock"}
RUN = ("runuser", "-u", "friend", "--", NSEDGE, "run", MODEL, "--temperature", "0")
QUESTION = (*RUN, "--quiet", "Name the capital of France.")
CORE, WEB = "nsedge.service", "nsedge-web.service"
SETTINGS_FILE = "/etc/nsedge/nsedge.toml"
UNAVAILABLE = 69
PATIENCE_S = 60.0


@pytest.fixture
def hasty(machine: Machine) -> Iterator[Machine]:
    """Units with less patience than they come with."""
    folder = f"/etc/systemd/system/{CORE}.d"
    machine.write(f"{folder}/hasty.conf", "[Service]\nWatchdogSec=3s\nRestartSec=100ms\n")
    machine.run("systemctl", "daemon-reload")
    yield machine
    machine.run("rm", f"{folder}/hasty.conf")
    machine.run("systemctl", "daemon-reload")


@pytest.fixture
def settings(machine: Machine) -> Iterator[str]:
    """The settings file's text; whatever a test writes there is taken back."""
    text = machine.run("cat", SETTINGS_FILE).stdout
    yield text
    machine.write(SETTINGS_FILE, text)


def health(machine: Machine) -> str:
    said = machine.run("curl", "-s", "-m", "10", "http://127.0.0.1:3009/health", check=False)
    return str(json.loads(said.stdout)["status"]) if said.stdout else ""


def status_of(machine: Machine, unit: str = CORE) -> str:
    return machine.show(unit, "StatusText")


class Stream:
    """A client in the middle of an answer."""

    def __init__(self, machine: Machine, tokens: int) -> None:
        words = ("--ignore-eos", "--max-tokens", str(tokens), "Count.")
        self._client = machine.start(*RUN, *words, **ENDPOINT)
        assert self._client.stdout is not None
        self._output = self._client.stdout
        self._first = self._output.read(1)

    def end(self) -> tuple[int, str]:
        """Its status and all that it said, errors too."""
        said = self._first + self._output.read()
        return self._client.wait(timeout=PATIENCE_S), said


def test_a_client_is_answered_once_the_units_are_ready(daemon: Machine) -> None:
    assert daemon.show(CORE, "ActiveState") == "active"
    assert MODEL in status_of(daemon)
    assert "Paris" in daemon.run(*QUESTION, **ENDPOINT).stdout
    daemon.until(lambda: health(daemon) == "ready", within_s=PATIENCE_S, what="a healthy shim")
    body = json.dumps({"text": "Name the capital of France.", "temperature": 0})
    url = "http://127.0.0.1:3009/api/generate"
    head = "Content-Type: application/json"
    said = daemon.run("curl", "-s", "-H", head, "-d", body, url)
    assert "Paris" in json.loads(said.stdout)["text"]


def test_ratings_of_the_studio_are_there_after_a_restart(daemon: Machine) -> None:
    studio = "http://127.0.0.1:3009/api/v1"

    def asked(path: str, *words: str) -> Any:
        head = "Content-Type: application/json"
        return json.loads(daemon.run("curl", "-s", "-H", head, f"{studio}{path}", *words).stdout)

    def healthy() -> bool:
        return health(daemon) == "ready"

    daemon.until(healthy, within_s=PATIENCE_S, what="a healthy shim")
    batch = asked("/generate/batch", "-d", '{"prompts": ["Hello."], "max_tokens": 2}')
    asked(f"/ideas/{batch['ideas'][0]['id']}/rating", "-d", '{"rating": 4}')
    daemon.run("systemctl", "restart", WEB)
    daemon.until(healthy, within_s=PATIENCE_S, what="a healthy shim")
    assert asked("/stats")["average_rating"] == 4.0


def test_only_the_group_may_connect(daemon: Machine) -> None:
    script = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/nsedge/nsedge.sock')"
    )
    assert daemon.run("runuser", "-u", "friend", "--", "/usr/bin/python3", "-c", script)
    refused = daemon.run(
        "runuser", "-u", "stranger", "--", "/usr/bin/python3", "-c", script, check=False
    )
    assert "PermissionError" in refused.stderr


def test_a_model_that_answers_otherwise_is_never_ready(machine: Machine, settings: str) -> None:
    broken = "/var/lib/nsedge/broken"
    machine.run("cp", "-r", f"/var/lib/nsedge/bundles/{MODEL}", broken)
    # Other tokens in as many bytes, and their hash: only the model itself can tell.
    forge = (
        "import hashlib, json, pathlib; b = pathlib.Path('/var/lib/nsedge/broken');"
        "p, m = b / 'golden.json', b / 'manifest.json';"
        "g = json.loads(p.read_text()); size = p.stat().st_size;"
        "[one.update(continuation_ids=[7] * len(one['continuation_ids'])) for one in g];"
        "p.write_text(json.dumps(g).ljust(size)); said = json.loads(m.read_text());"
        "said['files'][p.name]['sha256'] = hashlib.sha256(p.read_bytes()).hexdigest();"
        "m.write_text(json.dumps(said))"
    )
    machine.run("/usr/bin/python3", "-c", forge)
    machine.write(SETTINGS_FILE, f'{settings}[models]\nload = ["{broken}"]\n')
    machine.run("systemctl", "reset-failed")
    failed = machine.run("systemctl", "start", CORE, check=False)
    machine.run("systemctl", "stop", "nsedge.socket")
    machine.run("rm", "-r", broken)
    assert failed.returncode != 0
    assert "does not answer its golden prompts" in machine.journal(CORE)


def test_a_setting_that_cannot_be_is_not_tried_twice(machine: Machine, settings: str) -> None:
    machine.write(SETTINGS_FILE, f"{settings}slotz = 3\n")
    machine.run("systemctl", "reset-failed")
    machine.run("systemctl", "stop", "nsedge.socket")
    machine.run("systemctl", "start", CORE, check=False)
    assert machine.show(CORE, "ActiveState") == "failed"
    assert machine.show(CORE, "NRestarts") == "0"
    assert "slotz: no such setting; did you mean engine.slots?" in machine.journal(CORE)
    machine.run("systemctl", "stop", "nsedge.socket")


def test_a_first_client_starts_the_core(daemon: Machine) -> None:
    daemon.run("systemctl", "stop", WEB, "nsedge-web.socket", CORE, "nsedge.socket")
    daemon.run("systemctl", "start", "nsedge.socket")
    assert daemon.show(CORE, "ActiveState") == "inactive"
    daemon.run(*QUESTION, check=False, **ENDPOINT)
    daemon.until(
        lambda: daemon.show(CORE, "ActiveState") == "active",
        within_s=PATIENCE_S,
        what="a started core",
    )
    assert "Paris" in daemon.run(*QUESTION, **ENDPOINT).stdout


def test_a_killed_core_is_back_and_its_socket_never_gone(daemon: Machine) -> None:
    daemon.until(lambda: health(daemon) == "ready", within_s=PATIENCE_S, what="a healthy shim")
    before = daemon.run("stat", "-c", "%i", "/run/nsedge/nsedge.sock").stdout
    daemon.run("kill", "-KILL", daemon.show(CORE, "MainPID"))
    daemon.until(lambda: health(daemon) != "ready", within_s=10, what="a shim that noticed")
    daemon.until(
        lambda: health(daemon) == "ready", within_s=PATIENCE_S, what="a healthy shim again"
    )
    assert daemon.run("stat", "-c", "%i", "/run/nsedge/nsedge.sock").stdout == before
    assert daemon.show(CORE, "NRestarts") == "1"


def test_an_engine_that_hangs_is_killed_and_started_anew(hasty: Machine, daemon: Machine) -> None:
    client = Stream(daemon, 900)
    first = daemon.show(CORE, "MainPID")
    hang = daemon.start("/usr/bin/python3", "/opt/tests/hang.py", first)
    assert hang.stdout is not None
    assert "is stopped" in hang.stdout.readline()
    daemon.until(
        lambda: daemon.show(CORE, "MainPID") not in (first, "0"),
        within_s=PATIENCE_S,
        what="another core",
    )
    daemon.until(
        lambda: daemon.show(CORE, "ActiveState") == "active",
        within_s=PATIENCE_S,
        what="a ready core",
    )
    assert "Paris" in daemon.run(*QUESTION, **ENDPOINT).stdout
    journal = daemon.journal(CORE)
    assert "Watchdog timeout" in journal
    # Wherever in a step it was stopped, the engine's loop is in the stack that was written.
    assert re.search(r'engine\.py", line \d+ in _loop', journal), "where it hung"
    status, said = client.end()
    assert status == UNAVAILABLE, said
    hang.wait(timeout=PATIENCE_S)


def test_a_core_that_only_fails_is_left_at_last(hasty: Machine, daemon: Machine) -> None:
    daemon.run("systemctl", "stop", WEB, "nsedge-web.socket")

    def killed() -> bool:
        pid = daemon.show(CORE, "MainPID")
        if pid != "0":
            daemon.run("kill", "-KILL", pid, check=False)
        return daemon.show(CORE, "Result") == "start-limit-hit" or (
            daemon.show(CORE, "ActiveState") == "failed"
        )

    daemon.until(killed, within_s=PATIENCE_S, what="the limit of restarts")
    assert 1 <= int(daemon.show(CORE, "NRestarts")) <= 5


def test_stopping_lets_running_requests_end(daemon: Machine) -> None:
    client = Stream(daemon, 200)
    daemon.run("systemctl", "stop", "nsedge.socket")
    status, said = client.end()
    assert status == 0, said
    assert " 200 tokens" in said
    assert daemon.show(CORE, "Result") == "success"
    assert daemon.show(CORE, "ActiveState") == "inactive"


def test_what_does_not_end_in_time_is_told_so(daemon: Machine, settings: str) -> None:
    daemon.write(SETTINGS_FILE, settings.replace("drain_s = 20", "drain_s = 0.5"))
    daemon.run("systemctl", "restart", CORE)
    client = Stream(daemon, 900)
    daemon.run("systemctl", "stop", "nsedge.socket")
    status, said = client.end()
    assert status == UNAVAILABLE
    assert "the daemon stops, and waited 0.5 s for this" in said
    assert daemon.show(CORE, "Result") == "success"


def test_reloading_takes_over_what_can_change_and_disturbs_nobody(
    daemon: Machine, settings: str
) -> None:
    client = Stream(daemon, 300)
    before = daemon.show(CORE, "MainPID")
    changed = settings.replace("drain_s = 20", "drain_s = 7").replace("slots = 4", "slots = 5")
    daemon.write(SETTINGS_FILE, changed)
    daemon.run("systemctl", "reload", CORE)
    daemon.until(
        lambda: "changed core.drain_s; a restart is needed for engine.slots" in journal(daemon),
        within_s=10,
        what="what was reloaded",
    )
    assert daemon.show(CORE, "ActiveState") == "active"
    assert daemon.show(CORE, "MainPID") == before
    assert " 300 tokens" in client.end()[1]
    daemon.write(SETTINGS_FILE, f"{changed}slotz = 3\n")
    daemon.run("systemctl", "reload", CORE)
    daemon.until(
        lambda: "not reloaded: " in journal(daemon), within_s=10, what="what was not reloaded"
    )
    assert "Paris" in daemon.run(*QUESTION, **ENDPOINT).stdout


def journal(machine: Machine) -> str:
    return machine.journal(CORE)


def test_the_shim_reads_settings_that_an_editor_put_in_place(
    daemon: Machine, settings: str
) -> None:
    before = daemon.show(WEB, "MainPID")
    asked = ("curl", "-s", "-H", "Host: edge.local", "http://127.0.0.1:3009/live")
    assert "host_not_allowed" in daemon.run(*asked).stdout
    daemon.write(f"{SETTINGS_FILE}.new", f'{settings}[web]\nallowed_hosts = ["edge.local"]\n')
    daemon.run("mv", f"{SETTINGS_FILE}.new", SETTINGS_FILE)
    daemon.run("systemctl", "reload", WEB)
    daemon.until(
        lambda: '"live"' in daemon.run(*asked).stdout, within_s=PATIENCE_S, what="an allowed host"
    )
    assert "changed web.allowed_hosts" in daemon.journal(WEB)
    assert daemon.show(WEB, "MainPID") == before


@pytest.fixture
def credential(machine: Machine) -> Iterator[str]:
    """A key of a key file that only systemd reads for the shim; the drop-in that passes it."""
    keys, folder = "/root/keys.json", f"/etc/systemd/system/{WEB}.d"
    variables = {"NSEDGE_HOME": "/root/nsedge", "NSEDGE_WEB_KEYS": keys}
    made = machine.run(NSEDGE, "keys", "add", "probe", "--json", **variables)
    passed = f"LoadCredential=keys:{keys}\nEnvironment=NSEDGE_WEB_KEYS=credential:keys"
    machine.write(f"{folder}/keys.conf", f"[Service]\n{passed}\n")
    machine.run("systemctl", "daemon-reload")
    yield str(json.loads(made.stdout)["key"])
    machine.run("rm", f"{folder}/keys.conf", keys)
    machine.run("systemctl", "daemon-reload")


def test_keys_come_as_a_credential(credential: str, daemon: Machine) -> None:
    asked = ("curl", "-s", "-m", "10", "http://127.0.0.1:3009/v1/models")
    daemon.until(
        lambda: MODEL in daemon.run(*asked, "-H", f"Authorization: Bearer {credential}").stdout,
        within_s=PATIENCE_S,
        what="an answer to who has the key",
    )
    assert "invalid_api_key" in daemon.run(*asked).stdout
    modes = daemon.run("stat", "-c", "%a %U", "/root/keys.json").stdout.split()
    assert modes == ["600", "root"]


def test_the_shim_reaches_its_socket_and_nothing_else(daemon: Machine) -> None:
    core, web = daemon.show(CORE, "MainPID"), daemon.show(WEB, "MainPID")
    owners = daemon.run("stat", "-c", "%U", f"/proc/{core}", f"/proc/{web}").stdout.split()
    assert owners == ["nsedge", "nsedge-web"]
    inside = ("nsenter", "-t", web, "-m", "-n", "--")
    folders = "find / -maxdepth 2 -xdev -not -path '/usr*' -type d -o -type b -o -type c"
    seen = set(daemon.run(*inside, "sh", "-c", folders).stdout.split())
    assert not {"/home", "/root", "/srv", "/boot", "/etc/ssh"} & seen
    assert daemon.run(*inside, "ls", "/var/lib").stdout.split() == ["nsedge-web"]
    assert daemon.run(*inside, "ls", "/run/nsedge").stdout.split() == [
        "nsedge.sock",
        "nsedge.sock.control",
    ]
    nodes = set(
        daemon.run(*inside, "find", "/dev/", "-type", "c", "-o", "-type", "b").stdout.split()
    )
    usual = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts/ptmx"}
    assert nodes <= {f"/dev/{name}" for name in usual}
    addresses = daemon.run(*inside, "cat", "/proc/net/route", check=False).stdout
    assert len(addresses.splitlines()) <= 1
    facts = daemon.run("cat", f"/proc/{web}/status").stdout
    for fact in (r"CapBnd:\s+0{16}\n", r"NoNewPrivs:\s+1\n", r"Seccomp:\s+2\n"):
        assert re.search(fact, facts), fact


@pytest.mark.parametrize(("unit", "most"), [(CORE, 4.0), (WEB, 2.0)])
def test_the_exposure_is_small(daemon: Machine, unit: str, most: float) -> None:
    said = daemon.run("systemd-analyze", "security", "--no-pager", unit).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said
    assert float(found[1]) <= most


def test_installing_again_keeps_settings_and_starts_what_is_new(daemon: Machine) -> None:
    before = daemon.show(CORE, "MainPID")
    said = json.loads(daemon.run(NSEDGE, "install-units", "--now", "--json").stdout)
    states = {one["path"].rpartition("/")[2]: one["state"] for one in said["files"]}
    assert states.pop("nsedge.toml") == "kept"
    assert set(states.values()) == {"unchanged"}
    assert daemon.show(CORE, "MainPID") not in (before, "0")
    assert daemon.show(CORE, "ActiveState") == "active"
    units = (CORE, WEB, "nsedge.socket", "nsedge-web.socket")
    assert daemon.run("systemctl", "is-enabled", *units).stdout.split() == ["enabled"] * 4
    assert not daemon.run("systemd-analyze", "verify", CORE, WEB).stderr
