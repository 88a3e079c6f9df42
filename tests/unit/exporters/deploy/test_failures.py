"""A deployment that fails in any step leaves the old version serving, and no trace."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys

import pytest

from exporters.__main__ import main
from exporters.deploy import history
from exporters.deploy.deployment import Order, SwitchUnclear, Yard, deploy
from exporters.deploy.store import Store
from exporters.deploy.targets import StoppedDaemon
from exporters.progress import Progress
from nsedge.api import ModelState
from nsedge.errors import ConnectionLost
from nsedge.ipc.access import Access
from nsedge.ipc.client import Client, KeyPair
from nsedge.ipc.curve import ServerCurve
from nsedge.security import keyring
from nsedge.security.keyring import CurveClient, KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from tests.unit.exporters.deploy.deployable import (
    alias_of,
    folder,
    restate,
    served,
    spoil_golden,
    write_deployable,
)
from tests.unit.ipc.test_curve import free_port


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


def test_a_daemon_that_cannot_keep_the_alias_says_so(home, bundles, command, capsys):
    """A rollback on a full disk counts at once; the operator is told that a restart undoes it."""
    with home.serving():
        command("deploy", bundles[0])
        command("deploy", bundles[1])
        state = home.path / "state"
        shutil.rmtree(state)
        state.write_text("no directory")
        assert main(["rollback", "tiny", "--to", home.endpoint]) == 0
        assert alias_of(home, "tiny") == served(bundles[0])
    assert "not kept over a restart: File exists; once that is mended" in capsys.readouterr().err


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


def test_two_runs_take_turns(home, bundles):
    store = Store(home.store)
    store.own.mkdir(parents=True)
    with home.serving(), (store.own / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        words = ["deploy", str(bundles[0]), "--to", home.endpoint]
        with subprocess.Popen(
            [sys.executable, "-m", "exporters", *words], stderr=subprocess.PIPE, text=True
        ) as run:
            assert run.stderr is not None
            assert any("waiting for its end" in line for line in run.stderr)
            assert home.stored() == []
            fcntl.flock(lock, fcntl.LOCK_UN)
            run.communicate()
    assert run.returncode == 0
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
