"""Key files: what is kept, what is refused, and what changes under a running program."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest

from nsedge.errors import ConfigInvalid, Forbidden
from nsedge.security import keyring
from nsedge.security.keyring import ApiKey, Caller, CurveClient, KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from tests.fakes import FakeClock


def api_key(name: str, secret: str, *scopes: Scope) -> ApiKey:
    return ApiKey(name=name, sha256=keyring.digest_of(secret), scopes=scopes or (Scope.INFER,))


def test_a_secret_is_found_and_none_else() -> None:
    secrets = [keyring.new_secret() for _ in range(3)]
    ring = KeyRing(api=tuple(api_key(str(at), each) for at, each in enumerate(secrets)))
    for at, secret in enumerate(secrets):
        found = ring.find_api(secret)
        assert found is not None
        assert found.name == str(at)
        assert ring.find_api(secret[:-1]) is None
    assert ring.find_api("") is None
    assert ring.find_api("\udcff") is None


def test_a_secret_is_long_and_known_by_its_beginning() -> None:
    one, other = keyring.new_secret(), keyring.new_secret()
    assert one != other
    assert one.startswith("nse-")
    assert len(one) >= 47


def test_every_key_is_compared_whatever_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: str, other: str) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr(keyring.hmac, "compare_digest", compare)
    ring = KeyRing(api=(api_key("a", "1"), api_key("b", "2"), api_key("c", "3")))
    for secret in ("1", "3", "none"):
        compared.clear()
        ring.find_api(secret)
        assert compared == [key.sha256 for key in ring.api]


def test_the_file_holds_no_secret_and_is_its_owners_alone(tmp_path: Path) -> None:
    path, secret = tmp_path / "sub" / "keys.json", keyring.new_secret()
    ring = KeyRing(
        api=(api_key("a", secret),),
        curve=(CurveClient(name="c", scopes=(Scope.READ,), public_key="x" * 40),),
    )
    keyring.write(path, ring)
    assert keyring.read(path) == ring
    assert secret not in path.read_text(encoding="utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keyring.write(path, KeyRing())
    path.chmod(0o640)
    keyring.write(path, KeyRing(api=(api_key("a", "1"),)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]


SHA = "0" * 64


@pytest.mark.parametrize(
    "content",
    [
        {"api": [{"name": "a", "sha256": SHA, "scopes": ["infer"], "extra": 1}]},
        {"api": [{"name": "a", "sha256": SHA, "scopes": ["root"]}]},
        {"api": [{"name": "a", "sha256": SHA, "scopes": []}]},
        {"api": [{"name": "a", "sha256": "short", "scopes": ["infer"]}]},
        {"api": [{"name": "a\nb", "sha256": SHA, "scopes": ["infer"]}]},
        {"api": [{"name": "a", "sha256": SHA, "scopes": ["infer"]}] * 2},
        {"curve": [{"name": "a", "public_key": "x", "scopes": ["infer"]}]},
        {"keys": []},
        [],
    ],
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigInvalid, match=str(path)):
        keyring.read(path)


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keyring.write(path, KeyRing())
    path.chmod(0o660)
    with pytest.raises(ConfigInvalid, match="may be written by others"):
        keyring.read(path)
    with pytest.raises(ConfigInvalid, match="No such file"):
        keyring.read(tmp_path / "none")


def test_a_scope_that_is_missing_is_told_with_those_there_are() -> None:
    caller = Caller(name="a", scopes=frozenset({Scope.READ}))
    caller.require(Scope.READ)
    with pytest.raises(Forbidden, match=r"'infer'; 'a' has read"):
        caller.require(Scope.INFER)


def test_a_file_is_read_anew_when_it_changes_and_not_before_its_time(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", FakeClock()
    keyring.write(path, KeyRing(api=(api_key("a", "1"),)))
    watched = WatchedFile(path, keyring.read, clock=clock)
    keyring.write(path, KeyRing())
    assert watched.value().find_api("1") is not None
    clock.advance(1.0)
    assert watched.value().find_api("1") is None


def test_a_file_that_goes_bad_changes_nothing_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    keyring.write(path, KeyRing(api=(api_key("a", "1"),)))
    watched = WatchedFile(path, keyring.read, clock=FakeClock(), look_s=0.0)
    path.write_text("{", encoding="utf-8")
    for _ in range(3):
        assert watched.value().find_api("1") is not None
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 1
    path.unlink()
    assert watched.value().find_api("1") is not None
    keyring.write(path, KeyRing())
    assert watched.value().find_api("1") is None
