"""Before a bundle's bytes reach the engine: minisign's signatures, and hashes."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nsedge.bundle import signature
from nsedge.bundle.manifest import Bundle
from nsedge.bundle.signature import PublicKey, SecretKey
from nsedge.errors import BundleInvalid, ConfigInvalid
from nsedge.runtime.hosting import text as residency
from nsedge.runtime.hosting import trust
from nsedge.runtime.hosting.hosted import Host
from nsedge.runtime.settings import EngineSettings
from tests.unit.bundles import edit_manifest, write_bundle

# Made by minisign 0.11: `minisign -G -W`, `minisign -S`, `minisign -S -l`.
PUBLIC = "RWTUbB7ZU27he7vi8x7c+ykkuOUp5F5Lb6EUJg73ALy5yG4b6fSIb56C"
SECRET = "untrusted comment: minisign encrypted secret key\n" + (
    "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1Gwe2VNu4XuNGhom"
    "yX6YrWC1shHCZRNIHbRTR+04sHpgOi6tGn0Kyrvi8x7c+ykkuOUp5F5Lb6EUJg73ALy5yG4b6fSIb56C"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
)
MANIFEST = b'{"a": 1}\n'
HASHED = """untrusted comment: signature from minisign secret key
RUTUbB7ZU27he329VqRZJ5FgA6Cv8MWVVAThgvXKkqyksL9x9gzyyQkdgAvtgeBmBNcViJwd9m57UD9+et/kSPok/jO/PxT0hQU=
trusted comment: timestamp:1795260745	file:manifest.json	hashed
P//G2QDimzkCut3PGtCf9mE1bn5oethh9ug6r4vVFSwt3hnWitoVP2QX8fgQfGnYxfnp+G3O7V8QoDbKdXs9AQ==
"""
LEGACY = """untrusted comment: signature from minisign secret key
RWTUbB7ZU27hezTyD/aS6n1iwTFAgQJoag8nPGyli+I+T1ejvLSxS/2BFBKh56MoKdSmpuRlxLTfC9Ph4PPz8bLz+EdweaMIHgA=
trusted comment: timestamp:1795260745	file:manifest.json
hTk3z+G/0z3zRu4qK2OZU5JHZ+snFUqOmo8kny+U1YAV6pNRwqAE/9BT+cDKqENF9z00BEl/uEeJG4uIQYapAg==
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "tiny")


@pytest.fixture
def key(tmp_path: Path) -> SecretKey:
    return SecretKey.make(tmp_path / "signer.key")


@pytest.mark.parametrize("text", [HASHED, LEGACY], ids=["hashed", "legacy"])
def test_signatures_of_the_tool_are_taken(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(MANIFEST)
    (tmp_path / "manifest.json.minisig").write_text(text, encoding="utf-8")
    assert str(signature.check(tmp_path, [PUBLIC])) == PUBLIC
    (tmp_path / "manifest.json").write_bytes(MANIFEST.replace(b"1", b"2"))
    with pytest.raises(BundleInvalid, match="the manifest was altered"):
        signature.check(tmp_path, [PUBLIC])


def test_keys_of_the_tool_can_sign(tmp_path: Path) -> None:
    path = tmp_path / "k.sec"
    path.write_text(SECRET, encoding="utf-8")
    path.chmod(0o600)
    assert str(SecretKey.read(path).public) == PUBLIC


@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")
def test_the_tool_takes_ours(path: Path, key: SecretKey) -> None:
    key.sign(path)
    manifest = str(path / "manifest.json")
    words = ["minisign", "-V", "-P", str(key.public), "-m", manifest]
    assert subprocess.run(words, capture_output=True).returncode == 0
    again = ["minisign", "-S", "-s", str(path.parent / "signer.key"), "-m", manifest]
    assert subprocess.run(again, capture_output=True).returncode == 0
    assert signature.check(path, [str(key.public)]) == key.public


def test_a_signed_bundle_opens_and_one_of_several_signers_is_enough(
    path: Path, key: SecretKey
) -> None:
    key.sign(path)
    assert trust.open_signed(path, (PUBLIC, str(key.public))).manifest.name == "tiny"
    assert trust.open_signed(path, ()).manifest.name == "tiny"


def test_an_unsigned_bundle_is_refused_where_a_signer_is_asked_for(path: Path) -> None:
    with pytest.raises(BundleInvalid, match="is not signed"):
        trust.open_signed(path, (PUBLIC,))


def test_another_signer_is_refused(path: Path, key: SecretKey) -> None:
    key.sign(path)
    with pytest.raises(BundleInvalid, match=r"by none of models\.signers"):
        trust.open_signed(path, (PUBLIC,))


def test_a_forged_key_id_is_refused(path: Path, key: SecretKey) -> None:
    key.sign(path)
    target = path / "manifest.json.minisig"
    lines = target.read_text(encoding="utf-8").splitlines()
    raw = bytearray(base64.b64decode(lines[1]))
    raw[2:10] = PublicKey.parse(PUBLIC).id
    lines[1] = base64.b64encode(bytes(raw)).decode()
    target.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(BundleInvalid, match="does not fit"):
        trust.open_signed(path, (PUBLIC,))


@pytest.mark.parametrize("at", [1, 2, 3])
def test_every_line_of_a_signature_counts(path: Path, key: SecretKey, at: int) -> None:
    key.sign(path)
    target = path / "manifest.json.minisig"
    lines = target.read_text(encoding="utf-8").splitlines()
    middle = len(lines[at]) // 2
    lines[at] = (
        lines[at][:middle] + ("A" if lines[at][middle] != "A" else "B") + lines[at][middle + 1 :]
    )
    target.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(BundleInvalid):
        trust.open_signed(path, (str(key.public),))


@pytest.mark.parametrize("text", ["", "a\nb\nc\nd", HASHED.replace("RUT", "XXX"), "x" * 10**5])
def test_what_is_no_signature_is_told(path: Path, text: str) -> None:
    (path / "manifest.json.minisig").write_text(text, encoding="utf-8")
    with pytest.raises(BundleInvalid, match="not a signature of minisign's"):
        trust.open_signed(path, (PUBLIC,))


def test_what_is_no_key_is_told(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="not a public key"):
        trust.open_signed(path, ("RWQ",))
    for content in ("", "untrusted comment: x\nAAAA\n"):
        (tmp_path / "none").write_text(content, encoding="utf-8")
        (tmp_path / "none").chmod(0o600)
        with pytest.raises(ConfigInvalid, match="not a secret key"):
            SecretKey.read(tmp_path / "none")


def test_a_secret_key_is_its_owners_alone(tmp_path: Path, key: SecretKey) -> None:
    path = tmp_path / "signer.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SecretKey.read(path) == key
    assert key.seed.hex() not in repr(key)
    path.chmod(0o644)
    with pytest.raises(ConfigInvalid, match="may be read by others"):
        SecretKey.read(path)


def test_signatures_without_their_library_say_what_to_install(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "nsedge.bundle.signature")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(ConfigInvalid, match=r"pip install 'nsedge\[signatures\]'"):
        trust.open_signed(path, (PUBLIC,))


def test_an_altered_file_is_named_before_it_is_loaded(path: Path) -> None:
    (path / "cpu/model.onnx").write_bytes(b"not a grapH")
    with pytest.raises(BundleInvalid, match=r"cpu/model\.onnx was altered"):
        residency.load(
            path, Host(settings=EngineSettings(), deliver=lambda batch: None, clock=lambda: 0.0)
        )


def test_files_of_other_variants_are_not_read(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    first = manifest["components"]["decoder"]["variants"][0]
    other = {
        **first,
        "name": "other",
        "graph": "other/model.onnx",
    }
    (path / "other").mkdir()
    (path / "other/model.onnx").write_bytes(b"?")
    files = {**manifest["files"], "other/model.onnx": {"sha256": "0" * 64, "bytes": 1}}
    edit_manifest(path, variants=[first, other], files=files)
    bundle = Bundle.open(path)
    cpu, other_variant = bundle.manifest.variants
    trust.verify(bundle, cpu.graph)
    with pytest.raises(BundleInvalid, match=r"other/model\.onnx was altered"):
        trust.verify(bundle, other_variant.graph)
