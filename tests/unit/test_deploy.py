"""Deploying into a daemon that serves a tiny model, and going back."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exporters.__main__ import main
from exporters.deploy import history
from exporters.deploy.deployment import Order, SwitchUnclear, Yard, deploy
from exporters.deploy.history import Deployment, History
from exporters.deploy.store import Store, examine
from exporters.deploy.targets import StoppedDaemon
from exporters.progress import Progress
from nsedge import keyring
from nsedge.api import LoadWish, ModelState, Sampling
from nsedge.errors import ConnectionLost
from nsedge.ipc.access import Access
from nsedge.ipc.client import Client, Finished, KeyPair
from nsedge.ipc.curve import ServerCurve
from nsedge.keyring import CurveClient, KeyRing, Scope
from nsedge.watched import WatchedFile
from tests.ipc import short_directory
from tests.unit.deployable import PROMPTS, Home, restate, spoil_golden, words, write_deployable
from tests.unit.test_ipc_curve import free_port

Deploy = Callable[..., dict[str, Any]]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Home]:
    with short_directory() as path:
        for name in [name for name in os.environ if name.startswith("NSEDGE_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("NSEDGE_HOME", str(path))
        monkeypatch.setenv("NSEDGE_CONFIG", os.devnull)
        monkeypatch.setenv("NSEDGE_CACHE", str(tmp_path / "cache"))
        yield Home(path)


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three versions of a bundle."""
    return tuple(
        write_deployable(tmp_path / f"v{day}", created=f"2026-01-0{day}T00:00:00Z")
        for day in (1, 2, 3)
    )


@pytest.fixture
def command(home: Home, capsys: pytest.CaptureFixture[str]) -> Deploy:
    """Runs nsedge-export; what it answers, and its exit status under "status"."""

    def run(*words: object) -> dict[str, Any]:
        status = main([*map(str, words), "--to", home.endpoint, "--json"])
        return {**json.loads(capsys.readouterr().out), "status": status}

    return run


def served(bundle: Path) -> str:
    return examine(bundle).served


def folder(bundle: Path) -> str:
    return examine(bundle).folder


def alias_of(home: Home, alias: str) -> str | None:
    with Client(home.endpoint) as client:
        return next((one.name for one in client.models() if alias in one.aliases), None)


def test_a_bundle_is_copied_tried_out_and_served_under_its_alias(home, bundles, command):
    with home.serving():
        answer = command("deploy", bundles[0])
        model = served(bundles[0])
        assert answer == {
            "status": 0,
            "alias": "tiny",
            "model": model,
            "previous": None,
            "changed": True,
            "copied": True,
            "golden": {"tokens": 36, "agreed": 36},
            "removed": [],
        }
        assert home.stored() == [folder(bundles[0])]
        with Client(home.endpoint) as client:
            events = list(client.generate("tiny", "w1 w2", sampling=Sampling(max_tokens=3)))
            assert isinstance(events[-1], Finished)
            assert client.stats().models.keys() == {model}


def test_the_same_bundle_again_changes_nothing_and_says_so(home, bundles, command, capsys):
    with home.serving():
        command("deploy", bundles[0])
        again = command("deploy", bundles[0])
        assert (again["changed"], again["copied"], again["status"]) == (False, False, 0)
        assert main(["deploy", str(bundles[0]), "--to", home.endpoint]) == 0
        assert "already: nothing was done" in capsys.readouterr().out


def test_rollback_goes_back_to_what_served_before_and_on_again_by_version(home, bundles, command):
    one, two, three = (served(bundle) for bundle in bundles)
    with home.serving():
        for bundle in bundles[:2]:
            command("deploy", bundle, "--as", "prod")
        assert command("rollback", "prod")["model"] == one
        assert alias_of(home, "prod") == one
        failed = command("rollback", "prod")
        assert failed["status"] == 1
        assert "nothing is known that prod stood for before" in failed["error"]
        assert command("rollback", "prod", "--to-version", two[-12:-6])["model"] == two
        assert command("rollback", "prod")["model"] == one
        assert command("deploy", bundles[2], "--as", "prod")["previous"] == one
        assert command("rollback", "prod")["model"] == one, "what failed before is not gone back to"
        assert "none of prod" in command("rollback", "prod", "--to-version", "zzz")["error"]
        assert three in command("rollback", "prod", "--to-version", "")["error"]


def test_aliases_and_history_survive_a_restart_of_the_daemon(home, bundles, command):
    with home.serving():
        command("deploy", bundles[0])
        command("deploy", bundles[1])
    with home.serving():
        assert alias_of(home, "tiny") == served(bundles[1])
        assert command("rollback", "tiny")["model"] == served(bundles[0])
    with home.serving():
        assert alias_of(home, "tiny") == served(bundles[0])


def test_the_replaced_version_leaves_memory_a_while_after_its_last_request(home, bundles, command):
    with home.serving(), Client(home.endpoint) as client:
        command("deploy", bundles[0])
        client.load(LoadWish(model="tiny", keep_alive_s=7200.0, pin=True))
        command("deploy", bundles[1])
        models = {one.name: one for one in client.models()}
        old, new = models[served(bundles[0])], models[served(bundles[1])]
        assert (old.keep_alive_s, old.pinned) == (60.0, False)
        assert (new.keep_alive_s, new.pinned) == (7200.0, True), "as the old one was kept"


def test_only_so_many_versions_stay_and_none_that_another_alias_needs(home, bundles, command):
    with home.serving(), Client(home.endpoint) as client:
        command("deploy", bundles[0], "--as", "other")
        command("deploy", bundles[0], "--as", "prod")
        assert command("deploy", bundles[1], "--as", "prod", "--keep", 0)["removed"] == []
        client.unload(served(bundles[1]))
        resident = command("deploy", bundles[2], "--as", "prod", "--keep", 0)
        assert resident["removed"] == [served(bundles[1])]
        assert home.stored() == sorted([folder(bundles[0]), folder(bundles[2])])
        assert served(bundles[1]) not in [one.name for one in client.models()]


def test_versions_are_listed_with_their_provenance(home, bundles, command, capsys):
    with home.serving():
        command("deploy", bundles[0])
        command("deploy", bundles[1])
        command("deploy", bundles[2], "--as", "else")
        answer = command("versions", "tiny")
        assert answer["daemon"] == home.endpoint
        new, old = answer["versions"]
        assert (new["model"], new["serving"]) == (served(bundles[1]), True)
        assert (old["model"], old["serving"]) == (served(bundles[0]), False)
        assert new["source"] == "made for a test"
        assert (new["revision"], new["schemes"]) == ("r1", ["fp32"])
        assert new["created"] == "2026-01-02T00:00:00Z"
        assert set(new["deployed"]) == {"tiny"}
        assert len(command("versions")["versions"]) == 3
    assert main(["versions", "--to", home.endpoint]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["VERSION", "SERVED"]
    assert "from its next start on" in lines[-1]
    assert len([line for line in lines if "made for a test" in line]) == 3
    assert "never did" in command("versions", "nobody")["error"]


def test_a_damaged_version_is_listed_with_what_is_wrong(home, bundles, command):
    with home.serving():
        command("deploy", bundles[0])
        (home.store / folder(bundles[0]) / "tokenizer.json").unlink()
        (found,) = command("versions")["versions"]
        assert "tokenizer.json" in found["error"]


def test_a_damaged_version_is_repaired_by_deploying_it_again(home, bundles, command):
    with home.serving():
        command("deploy", bundles[0])
        stored = home.store / folder(bundles[0]) / "tokenizer.json"
        content = stored.read_bytes()
        stored.write_bytes(b"x" * len(content))
        assert command("deploy", bundles[0])["copied"]
        assert stored.read_bytes() == content


# What fails.


def test_a_corrupted_bundle_is_refused_before_anything_is_copied(home, bundles, command):
    data = bundles[0] / "cpu" / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1] + b"!")
    with home.serving():
        answer = command("deploy", bundles[0])
    assert answer["status"] == 1
    assert answer["error"].startswith("check failed: ")
    assert "model.onnx.data was altered" in answer["error"]
    assert home.stored() == []


@pytest.mark.parametrize(("first", "step"), [(0, "load failed"), (2, "try out failed")])
def test_wrong_golden_prompts_leave_the_old_version_serving(home, bundles, command, first, step):
    """The daemon looks at the first two as it loads; the rest is asked of it."""
    spoil_golden(bundles[1], first=first)
    with home.serving(), Client(home.endpoint) as client:
        command("deploy", bundles[0])
        known = history.read(Store(home.store), "tiny")
        answer = command("deploy", bundles[1])
        assert answer["status"] == 1
        assert answer["error"].startswith(step)
        assert f"tiny still stands for {served(bundles[0])}" in answer["error"]
        assert alias_of(home, "tiny") == served(bundles[0])
        assert home.stored() == [folder(bundles[0])]
        assert history.read(Store(home.store), "tiny") == known
        assert [one.name for one in client.models()] == [served(bundles[0])]
        assert client.models()[0].state is ModelState.READY


def test_a_bundle_that_cannot_be_loaded_leaves_nothing(home, bundles, command):
    (bundles[0] / "cpu" / "model.onnx").write_bytes(b"no graph")
    restate(bundles[0])
    with home.serving():
        answer = command("deploy", bundles[0])
    assert answer["error"].startswith("load failed: ")
    assert "tiny still stands for nothing yet" in answer["error"]
    assert home.stored() == []


def test_nobody_at_the_endpoint_is_told_with_the_remedy(home, bundles, command):
    answer = command("deploy", bundles[0])
    assert answer["status"] == 1
    assert f"no daemon at {home.endpoint}" in answer["error"]
    assert "--offline" in answer["error"]
    assert home.stored() == []


def test_a_store_that_is_not_the_daemons_is_told(home, bundles, command, tmp_path):
    with home.serving():
        answer = command("deploy", bundles[0], "--store", tmp_path / "elsewhere")
    assert f"is {tmp_path / 'elsewhere'} its HOME/bundles?" in answer["error"]
    assert Store(tmp_path / "elsewhere").versions() == {}


def test_an_alias_cannot_be_a_models_own_name(home, bundles, command):
    write_deployable(home.store / "tiny")
    with home.serving():
        answer = command("deploy", bundles[0])
        assert "'tiny' is a model's own name" in answer["error"]
        assert command("deploy", bundles[0], "--as", "my-tiny")["status"] == 0
    with pytest.raises(SystemExit):
        main(["deploy", str(bundles[0]), "--as", "My Tiny"])


def test_a_damaged_history_is_told_before_anything_is_copied(home, bundles, command):
    store = Store(home.store)
    store.own.mkdir(parents=True)
    (store.own / "tiny.json").write_text('{"alias": "tiny"')
    with home.serving():
        answer = command("deploy", bundles[0])
    assert answer["error"].startswith("check failed: ")
    assert "tiny.json is damaged" in answer["error"]
    assert home.stored() == []


class BreaksOff(StoppedDaemon):
    """Goes away while the alias is switched."""

    def switch(self, alias: str, model: str) -> None:
        raise ConnectionLost("the connection went away")


def test_where_the_switch_is_not_known_nothing_is_taken_back(home, bundles):
    store = Store(home.store)
    yard = Yard(store=store, target=BreaksOff(store, {}), progress=Progress(None))
    with pytest.raises(SwitchUnclear, match="tells what tiny stands for"):
        deploy(Order(bundle=bundles[0], keep=3), yard)
    assert home.stored() == [folder(bundles[0])], "it may be what is served now"
    assert history.read(store, "tiny").find(served(bundles[0])) is not None


def test_a_full_disk_leaves_nothing(home, bundles):
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from exporters.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    with home.serving():
        done = subprocess.run(
            [sys.executable, "-c", limited, "deploy", bundles[0], "--to", home.endpoint],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "nsedge-export: copy failed: " in done.stderr
    assert home.stored() == []


KILLED = """
import os, signal, sys
from exporters.deploy import {module} as module
from exporters.__main__ import main
def killed(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)
{place} = killed
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("module", "place", "left"),
    [
        ("store", "module._copy", "part"),
        ("targets", "module.RunningDaemon.bring", "whole"),
        ("targets", "module.RunningDaemon.try_out", "whole"),
        ("targets", "module.RunningDaemon.switch", "whole"),
    ],
)
def test_a_killed_run_leaves_the_store_consistent(home, bundles, command, module, place, left):
    with home.serving():
        command("deploy", bundles[0])
        done = subprocess.run(
            [
                *(sys.executable, "-c", KILLED.format(module=module, place=place)),
                *("deploy", bundles[1], "--to", home.endpoint),
            ],
            stderr=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == -9
        assert alias_of(home, "tiny") == served(bundles[0])
        listed = [one["model"] for one in command("versions")["versions"] if not one["error"]]
        assert (served(bundles[1]) in listed) == (left == "whole")
        assert command("deploy", bundles[1])["model"] == served(bundles[1])
        assert home.stored() == sorted(map(folder, bundles[:2])), "what was half made is gone"
        assert command("rollback", "tiny")["model"] == served(bundles[0])


def test_two_runs_take_turns(home, bundles, command, capsys):
    store = Store(home.store)
    store.own.mkdir(parents=True)
    with home.serving(), (store.own / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        statuses: list[int] = []
        words = ["deploy", str(bundles[0]), "--to", home.endpoint]
        run = threading.Thread(target=lambda: statuses.append(main(words)))
        run.start()
        told = ""
        while "waiting for its end" not in told and run.is_alive():
            told += capsys.readouterr().err
        assert home.stored() == []
        fcntl.flock(lock, fcntl.LOCK_UN)
        run.join()
    assert statuses == [0]
    assert home.stored() == [folder(bundles[0])]


def test_a_daemon_behind_curve_asks_for_a_key_that_may_manage(home, bundles, tmp_path, capsys):
    server, friend = (KeyPair.make(tmp_path / f"{name}.key_secret") for name in ("core", "friend"))
    known = tmp_path / "clients.json"
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    settings = tmp_path / "client.toml"
    settings.write_text(
        f'[core]\nendpoint = "{endpoint}"\n[client]\n'
        f'curve_secret = "{tmp_path / "friend.key_secret"}"\nserver_key = "{server.public}"\n'
    )
    words = ["deploy", str(bundles[0]), "--config", str(settings)]

    def let_in(*scopes: Scope) -> None:
        client = CurveClient(name="friend", scopes=scopes, public_key=friend.public)
        keyring.write(known, KeyRing(curve=(client,)))

    let_in(Scope.READ, Scope.INFER)
    clients = WatchedFile(known, keyring.read, look_s=0.0)
    access = Access(curve=ServerCurve(pair=server, clients=clients))
    with home.serving(endpoint, access):
        assert main(words) == 1
        assert "this needs the scope 'manage'" in capsys.readouterr().err
        assert home.stored() == []
        let_in(Scope.READ, Scope.INFER, Scope.MANAGE)
        assert main(words) == 0
        assert home.stored() == [folder(bundles[0])]


# Without a daemon.


def test_offline_it_is_served_from_the_next_start_on(home, bundles, command):
    assert command("deploy", bundles[0], "--offline")["golden"] is None
    assert command("deploy", bundles[1], "--offline")["previous"] == served(bundles[0])
    with home.serving():
        assert alias_of(home, "tiny") == served(bundles[1])
        assert "leave --offline out" in command("rollback", "tiny", "--offline")["error"]
    assert command("rollback", "tiny", "--offline")["model"] == served(bundles[0])
    with home.serving():
        assert alias_of(home, "tiny") == served(bundles[0])


def test_links_share_the_bytes_and_a_copy_does_not(home, bundles, command):
    command("deploy", bundles[0], "--offline", "--link")
    command("deploy", bundles[1], "--offline")
    for bundle, shared in ((bundles[0], True), (bundles[1], False)):
        mine = bundle / "cpu" / "model.onnx.data"
        assert mine.samefile(home.store / folder(bundle) / "cpu" / "model.onnx.data") is shared


def test_a_signature_and_a_report_go_along(home, bundles, command):
    (bundles[0] / "manifest.json.minisig").write_text("signed")
    (bundles[0] / "report.md").write_text("good")
    (bundles[0] / "stray").write_text("not copied")
    command("deploy", bundles[0], "--offline")
    stored = home.store / folder(bundles[0])
    assert (stored / "manifest.json.minisig").read_text() == "signed"
    assert (stored / "report.md").read_text() == "good"
    assert not (stored / "stray").exists()


# The history, and the comparison, by themselves.


def test_a_history_goes_back_step_by_step_and_ends():
    def deployed(model: str, previous: str | None) -> Deployment:
        return Deployment(model=model, deployed="2026-01-01T00:00:00Z", previous=previous)

    known = History(alias="a").after(deployed("1", None)).after(deployed("2", "1"))
    assert list(known.back_from("2")) == ["1"]
    again = known.after(deployed("1", "2"))
    assert [one.model for one in again.deployments] == ["2", "1"]
    assert list(again.back_from("1")) == ["2"], "two that were deployed after each other"
    assert list(known.without(["1"]).back_from("2")) == ["1"]
    assert list(known.back_from("unknown")) == []


def test_tokens_after_another_one_are_asked_for_anew(bundles):
    from tokenizers import Tokenizer

    from exporters.deploy.trial import Asked

    golden = examine(bundles[0]).bundle.golden()[0]
    tokenizer = Tokenizer.from_file(str(bundles[0] / "tokenizer.json"))
    asked = Asked(prompt=golden)
    right = golden.continuation_ids
    assert asked.text(tokenizer) == words(PROMPTS[0])
    asked.compare([*right[:4], right[4] + 1, 0, 0])
    assert asked.hits == [True] * 4 + [False]
    assert asked.text(tokenizer) == words((*PROMPTS[0], *right[:5]))
    asked.compare(right[5:])
    assert asked.hits == [True] * 4 + [False] + [True] * 7
    assert asked.text(tokenizer) is None
