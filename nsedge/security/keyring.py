"""Who may come in, at rest: API keys by their hashes, CURVE clients by their public keys.

A key file is JSON, written by `nsedge keys`:

    {"api": [{"name", "sha256", "scopes", "requests_per_minute", "tokens_per_minute"}],
     "curve": [{"name", "public_key", "scopes"}]}

A secret is 256 random bits, so one SHA-256 hides it for good: there is no short password in it that
a slow hash would have to protect.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from nsedge.errors import ConfigInvalid, Forbidden

SECRET_PREFIX = "nse-"
"""The beginning of every API key, so that scanners for leaked secrets can know it."""
SECRET_BYTES = 32
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
OTHERS_READ = stat.S_IROTH
"""A group may read: that is how a file of root's reaches a service's user."""


class Scope(enum.StrEnum):
    """The scopes of a key."""

    INFER = "infer"
    """Have models answer."""
    MANAGE = "manage"
    """Load, unload and change what is served."""
    READ = "read"
    """See models, health and figures."""


KeyName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
Scopes = Annotated[tuple[Scope, ...], Meta(min_length=1)]
PerMinute = Annotated[int, Meta(ge=0, le=2**53)]
Z85 = Annotated[str, Meta(pattern=r"^[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who came in: by which name, and what is open to them."""

    name: str
    scopes: frozenset[Scope]

    def require(self, scope: Scope) -> None:
        """Raises Forbidden where `scope` is not open to them."""
        if scope not in self.scopes:
            has = ", ".join(sorted(self.scopes))
            raise Forbidden(f"this needs the scope {scope.value!r}; {self.name!r} has {has}")


EVERY_SCOPE = frozenset(Scope)
ANONYMOUS = Caller(name="anonymous", scopes=EVERY_SCOPE)
"""Whoever comes in where no key is asked for."""


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: KeyName
    scopes: Scopes

    @property
    def caller(self) -> Caller:
        """Who comes in with it."""
        return Caller(name=self.name, scopes=frozenset(self.scopes))


class ApiKey(_Entry, frozen=True, kw_only=True):
    """A key of the HTTP shim; a rate of None is what the settings say, 0 is without limit."""

    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None


class CurveClient(_Entry, frozen=True, kw_only=True):
    """A client of the core over tcp, known by its public key."""

    public_key: Z85


class KeyRing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of a key file."""

    api: tuple[ApiKey, ...] = ()
    curve: tuple[CurveClient, ...] = ()

    def find_api(self, secret: str) -> ApiKey | None:
        """The key that `secret` is; takes as long for a near miss as for any other."""
        digest = digest_of(secret)
        found = None
        for key in self.api:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def find_curve(self, public_key: str) -> CurveClient | None:
        """The client of a public key, which is no secret."""
        return next((one for one in self.curve if one.public_key == public_key), None)


def digest_of(secret: str) -> str:
    """The digest of an API key that is kept: its SHA-256, in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def new_secret() -> str:
    """A fresh API key."""
    return f"{SECRET_PREFIX}{secrets.token_urlsafe(SECRET_BYTES)}"


def read(path: Path) -> KeyRing:
    """The keys of a file.

    Raises:
        ConfigInvalid: where it cannot be read, is no key file, names one key twice, or others than
            its owner may write to it.
    """
    refuse_lax(path, OTHERS_WRITE)
    try:
        ring = msgspec.json.decode(path.read_bytes(), type=KeyRing)
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigInvalid(f"{path}: {error}") from error
    for entries in (ring.api, ring.curve):
        names = [entry.name for entry in entries]
        if len(set(names)) != len(names):
            raise ConfigInvalid(f"{path}: two keys have one name")
    return ring


def write(path: Path, ring: KeyRing) -> None:
    """Replace a key file in one step; a new one is its owner's alone.

    Raises:
        OSError: naming the file, where it cannot be written.
    """
    text = msgspec.json.format(msgspec.json.encode(ring), indent=2) + b"\n"
    path = path.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                _inherit(path, file.fileno())
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _inherit(path: Path, handle: int) -> None:
    """Give a file that replaces `path` its owner and mode: a service may read it as before."""
    if path.exists():
        old = path.stat()
        os.fchown(handle, old.st_uid, old.st_gid)
        os.fchmod(handle, stat.S_IMODE(old.st_mode))


def refuse_lax(path: Path, forbidden: int) -> None:
    """Refuse a file whose mode has any of the bits `forbidden`.

    Raises:
        ConfigInvalid: what to do about it; or the file cannot be looked at.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}") from error
    if mode & forbidden:
        what = "written" if mode & forbidden & OTHERS_WRITE else "read"
        raise ConfigInvalid(f"{path} may be {what} by others (mode {mode:04o}): chmod 600 {path}")
