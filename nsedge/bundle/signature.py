"""Signatures of bundles as minisign makes them: Ed25519 over BLAKE2b-512, `manifest.json.minisig`.

The manifest names the hash of every other file, so its signature stands for all of them. Keys and
signatures are interchangeable with the `minisign` tool's (its secret keys where they were made
without a password: `minisign -G -W`). Needs the extra `signatures`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from nsedge.bundle.files import MANIFEST_FILE
from nsedge.errors import BundleInvalid, ConfigInvalid
from nsedge.security.keyring import OTHERS_READ, OTHERS_WRITE, refuse_lax

SUFFIX = ".minisig"
MAX_SIGNATURE_BYTES = 8192
_PURE, _HASHED = b"Ed", b"ED"
_NO_KDF, _BLAKE2B = b"\x00\x00", b"B2"
_ID_BYTES, _KEY_BYTES, _SIGNATURE_BYTES = 8, 32, 64
_KDF_BYTES = 32 + 8 + 8
"""Salt and limits of the key derivation: zero where there is no password."""
_UNTRUSTED, _TRUSTED = "untrusted comment: ", "trusted comment: "


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """Whose signatures are taken."""

    id: bytes
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the 56 characters that the tool prints.

        Raises:
            ConfigInvalid: anything else.
        """
        raw = _decoded(text)
        if raw is None or len(raw) != 2 + _ID_BYTES + _KEY_BYTES or not raw.startswith(_PURE):
            raise ConfigInvalid(f"{text!r} is not a public key of minisign's")
        return cls(id=raw[2 : 2 + _ID_BYTES], raw=raw[2 + _ID_BYTES :])

    def __str__(self) -> str:
        return base64.b64encode(_PURE + self.id + self.raw).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signature:
    hashed: bool
    key_id: bytes
    raw: bytes
    comment: bytes
    comment_signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SecretKey:
    """What bundles are signed with; its repr tells nothing."""

    id: bytes
    seed: bytes

    @classmethod
    def make(cls, path: Path) -> Self:
        """Write a new key to `path`, its owner's alone.

        Raises:
            ConfigInvalid: where there is a file already.
            OSError: naming the file, where it cannot be written; nothing is left of it then.
        """
        key = cls(id=secrets.token_bytes(_ID_BYTES), seed=secrets.token_bytes(_KEY_BYTES))
        pair = key.seed + key.public.raw
        checksum = hashlib.blake2b(_PURE + key.id + pair, digest_size=32).digest()
        raw = _PURE + _NO_KDF + _BLAKE2B + bytes(_KDF_BYTES) + key.id + pair + checksum
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise ConfigInvalid(f"{path}: {error.strerror}") from error
        encoded = base64.b64encode(raw).decode()
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(f"{_UNTRUSTED}minisign unencrypted secret key\n{encoded}\n")
        except OSError as error:
            path.unlink()
            raise OSError(error.errno, error.strerror, str(path)) from error
        return key

    @classmethod
    def read(cls, path: Path) -> Self:
        """The key of a file.

        Raises:
            ConfigInvalid: open to others, encrypted, or no secret key of minisign's.
        """
        refuse_lax(path, OTHERS_READ | OTHERS_WRITE)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigInvalid(f"{path}: {error}") from error
        raw = _decoded(lines[1]) if len(lines) == 2 else None
        head = _PURE + _NO_KDF + _BLAKE2B
        if raw is not None and raw[:2] == _PURE and raw[2:4] != _NO_KDF:
            raise ConfigInvalid(f"{path} has a password: sign with `minisign -S -m` instead")
        if raw is None or len(raw) != len(head) + _KDF_BYTES + _ID_BYTES + 96 or raw[:6] != head:
            raise ConfigInvalid(f"{path} is not a secret key of minisign's")
        body = raw[len(head) + _KDF_BYTES :]
        return cls(id=body[:_ID_BYTES], seed=body[_ID_BYTES : _ID_BYTES + _KEY_BYTES])

    @property
    def public(self) -> PublicKey:
        """Its other half."""
        raw = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        return PublicKey(id=self.id, raw=raw)

    def sign(self, bundle: Path) -> Path:
        """Sign the manifest of the bundle at `bundle`; where the signature is.

        Raises:
            BundleInvalid: a manifest that cannot be read, or a signature that cannot be written.
        """
        manifest, target = bundle / MANIFEST_FILE, bundle / f"{MANIFEST_FILE}{SUFFIX}"
        comment = f"timestamp:{int(time.time())}\tfile:{MANIFEST_FILE}\thashed"
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        signed = private.sign(_digest(_read(manifest)))
        sealed = private.sign(signed + comment.encode())
        lines = (
            f"{_UNTRUSTED}signature of a bundle by nsedge",
            base64.b64encode(_HASHED + self.id + signed).decode(),
            f"{_TRUSTED}{comment}",
            base64.b64encode(sealed).decode(),
        )
        try:
            target.write_text("\n".join(lines) + "\n", encoding="utf-8")
        except OSError as error:
            raise BundleInvalid(f"{target}: {error.strerror}") from error
        return target


def check(bundle: Path, signers: Sequence[str]) -> PublicKey:
    """Hold the bundle's manifest to the signature beside it; which of `signers` made it.

    Raises:
        ConfigInvalid: a signer that is no public key.
        BundleInvalid: no signature, one by nobody of `signers`, or one that does not fit.
    """
    keys = [PublicKey.parse(text) for text in signers]
    path = bundle / f"{MANIFEST_FILE}{SUFFIX}"
    if not path.is_file():
        raise BundleInvalid(f"{bundle} is not signed: models.signers asks for {path.name}")
    signature = _parse(path)
    key = next((key for key in keys if key.id == signature.key_id), None)
    if key is None:
        raise BundleInvalid(f"{path} was made by none of models.signers")
    content = _read(bundle / MANIFEST_FILE)
    message = _digest(content) if signature.hashed else content
    public = Ed25519PublicKey.from_public_bytes(key.raw)
    try:
        public.verify(signature.raw, message)
        public.verify(signature.comment_signature, signature.raw + signature.comment)
    except InvalidSignature:
        raise BundleInvalid(f"{path} does not fit: the manifest was altered") from None
    return key


def _parse(path: Path) -> _Signature:
    try:
        lines = _read(path, at_most=MAX_SIGNATURE_BYTES).decode().splitlines()
    except UnicodeDecodeError as error:
        raise BundleInvalid(f"{path} is not a signature of minisign's") from error
    whole = len(lines) == 4 and lines[2].startswith(_TRUSTED)
    raw = _decoded(lines[1]) if whole else None
    sealed = _decoded(lines[3]) if whole else None
    if (
        raw is None
        or sealed is None
        or len(raw) != 2 + _ID_BYTES + _SIGNATURE_BYTES
        or raw[:2] not in (_PURE, _HASHED)
    ):
        raise BundleInvalid(f"{path} is not a signature of minisign's")
    return _Signature(
        hashed=raw[:2] == _HASHED,
        key_id=raw[2 : 2 + _ID_BYTES],
        raw=raw[2 + _ID_BYTES :],
        comment=lines[2].removeprefix(_TRUSTED).encode(),
        comment_signature=sealed,
    )


def _read(path: Path, *, at_most: int | None = None) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(-1 if at_most is None else at_most)
    except OSError as error:
        raise BundleInvalid(f"{path}: {error.strerror}") from error


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=64).digest()


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
