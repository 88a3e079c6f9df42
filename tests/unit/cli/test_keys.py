"""`nsedge keys`: what it makes can be used, and shown once only."""

from __future__ import annotations

import json
import resource
import stat
import subprocess
import sys

import pytest

from nsedge.__main__ import main
from nsedge.cli.exits import ExitStatus
from nsedge.errors import BundleInvalid
from nsedge.ipc.curve import KeyPair
from nsedge.runtime.hosting import trust
from nsedge.security import keyring
from nsedge.security.keyring import Scope
from tests.unit.bundles import write_bundle

PUBLIC = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "NSEDGE_CONFIG", "NSEDGE_WEB_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NSEDGE_HOME", str(tmp_path))
    return tmp_path


def ring_of(home):
    return keyring.read(home / "keys" / "keys.json")


def test_an_api_key_is_shown_once_and_kept_as_a_hash(home, capsys):
    words = ["--scopes", "infer,manage", "--requests-per-minute", "60"]
    assert main(["keys", "add", "laptop", *words]) == 0
    said = capsys.readouterr()
    secret = said.out.strip()
    assert "set web.keys" in said.err
    key = ring_of(home).find_api(secret)
    assert key.scopes == (Scope.INFER, Scope.MANAGE)
    assert (key.requests_per_minute, key.tokens_per_minute) == (60, None)
    assert main(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert "laptop" in listed
    assert secret not in listed
    assert key.sha256 not in listed


def test_the_file_of_the_settings_is_used(home, monkeypatch, capsys):
    path = home / "elsewhere.json"
    monkeypatch.setenv("NSEDGE_WEB_KEYS", str(path))
    assert main(["keys", "add", "a", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["file"] == str(path)
    assert keyring.read(path).find_api(made["key"]) is not None


def test_a_key_that_is_removed_is_gone(home, capsys):
    assert main(["keys", "add", "a"]) == main(["keys", "add", "b"]) == 0
    assert main(["keys", "remove", "a"]) == 0
    assert [key.name for key in ring_of(home).api] == ["b"]
    assert main(["keys", "remove", "a"]) == ExitStatus.USAGE
    assert "no key named 'a'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["add", "a"], "a key named 'a' already"),
        (["add", "b", "--scopes", "root"], "scopes are infer, manage, read"),
        (["add", "b/c"], "name"),
        (["add", "b", "--tokens-per-minute", "-1"], "tokens_per_minute"),
        (["client", "../b"], "name"),
        (["client", "b", "--public", "short"], "40 characters"),
    ],
)
def test_what_cannot_be_is_refused(home, capsys, words, told):
    assert main(["keys", "add", "a"]) == 0
    before = ring_of(home)
    assert main(["keys", *words]) == ExitStatus.USAGE
    assert told in capsys.readouterr().err
    assert ring_of(home) == before
    assert [each.name for each in (home / "keys").iterdir()] == ["keys.json"]


def test_the_cores_pair_is_made_once(home, capsys):
    assert main(["keys", "server"]) == 0
    said = capsys.readouterr()
    pair = KeyPair.read(home / "keys" / "core.key_secret")
    assert said.out.strip() == pair.public
    assert "core.curve_secret" in said.err
    assert pair.secret not in said.out + said.err
    assert main(["keys", "server"]) == ExitStatus.USAGE


def test_a_client_is_let_in_with_a_pair_of_its_own(home, capsys):
    assert main(["keys", "client", "tablet", "--scopes", "read"]) == 0
    public = capsys.readouterr().out.strip()
    path = home / "keys" / "tablet.key_secret"
    assert KeyPair.read(path).public == public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    client = ring_of(home).find_curve(public)
    assert (client.name, client.scopes) == ("tablet", (Scope.READ,))


def test_a_bundle_is_signed_and_taken(home, capsys):
    bundle = write_bundle(home / "tiny")
    assert main(["keys", "signer"]) == 0
    public = capsys.readouterr().out.strip()
    with pytest.raises(BundleInvalid, match="is not signed"):
        trust.open_signed(bundle, (public,))
    assert main(["keys", "sign", str(bundle)]) == 0
    assert trust.open_signed(bundle, (public,)).manifest.name == "tiny"
    assert main(["keys", "signer"]) == ExitStatus.USAGE


def test_an_altered_bundle_is_not_signed(home, capsys):
    bundle = write_bundle(home / "tiny")
    (bundle / "cpu/model.onnx").write_bytes(b"not a grapH")
    assert main(["keys", "signer"]) == 0
    assert main(["keys", "sign", str(bundle)]) == ExitStatus.FAILURE
    assert "was altered" in capsys.readouterr().err
    assert not (bundle / "manifest.json.minisig").exists()


def test_a_client_is_let_in_with_a_key_made_elsewhere(home, capsys):
    assert main(["keys", "client", "tablet", "--public", PUBLIC, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] is None
    assert ring_of(home).find_curve(PUBLIC).name == "tablet"


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["add", "a"], "keys.json"),
        (["client", "a"], "a.key_secret"),
        (["client", "a", "--public", PUBLIC], "keys.json"),
        (["server"], "core.key_secret"),
        (["signer"], "signer.key"),
    ],
)
def test_a_disk_that_is_full_is_a_failure_told_in_one_line_and_nothing_is_left(home, words, file):
    done = subprocess.run(
        [sys.executable, "-m", "nsedge", "keys", *words],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert (done.returncode, done.stdout) == (ExitStatus.FAILURE, "")
    assert done.stderr == f"nsedge: {home / 'keys' / file}: File too large\n"
    assert [*(home / "keys").iterdir()] == []
