"""CURVE over tcp: key files in ZeroMQ's own certificate format, and who is let in.

A `*.key_secret` file holds a pair; the `*.key` beside it the public half. Keys are text in Z85.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import zmq
import zmq.auth

from nsedge.errors import ConfigInvalid
from nsedge.security.keyring import OTHERS_READ, OTHERS_WRITE, Z85, KeyRing, refuse_lax
from nsedge.security.watched_file import WatchedFile

SECRET_SUFFIX = ".key_secret"
PUBLIC_SUFFIX = ".key"
_Z85 = re.compile(r"[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class KeyPair:
    """A CURVE pair; its repr tells nothing."""

    public: Z85
    secret: Z85

    @classmethod
    def read(cls, path: Path) -> Self:
        """The pair of a `*.key_secret` file.

        Raises:
            ConfigInvalid: where it cannot be read, holds no pair, or is open to others.
        """
        refuse_lax(path, OTHERS_READ | OTHERS_WRITE)
        try:
            public, secret = zmq.auth.load_certificate(path)
        except (OSError, ValueError) as error:
            raise ConfigInvalid(f"{path}: {error}") from error
        if secret is None:
            raise ConfigInvalid(f"{path} holds no secret key: name the {SECRET_SUFFIX} file")
        return cls(public=check_key(public.decode()), secret=check_key(secret.decode()))

    @classmethod
    def make(cls, path: Path) -> Self:
        """Write a new pair to `path` (`*.key_secret`, its owner's alone) and the public half
        beside it.

        Raises:
            ConfigInvalid: where there is one already.
            OSError: naming the file, where it cannot be written; nothing is left of it then.
        """
        name = path.name.removesuffix(SECRET_SUFFIX)
        if name == path.name or not name:
            raise ConfigInvalid(f"{path} must end in {SECRET_SUFFIX}")
        if path.exists():
            raise ConfigInvalid(f"{path} is there already: a new key would lock its users out")
        mask = os.umask(0o077)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            zmq.auth.create_certificates(path.parent, name)
        except OSError as error:
            cls.remove(path)
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            os.umask(mask)
        return cls.read(path)

    @staticmethod
    def remove(path: Path) -> None:
        """Take a pair away that nobody has been told of, as far as it is there."""
        for half in (path, path.with_suffix(PUBLIC_SUFFIX)):
            with contextlib.suppress(OSError):
                half.unlink()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCurve:
    """How a core proves who it is, and whom it lets in."""

    pair: KeyPair
    clients: WatchedFile[KeyRing]

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Have what `socket` binds from now on speak CURVE only."""
        socket.CURVE_SERVER = 1
        socket.CURVE_SECRETKEY = self.pair.secret.encode()
        socket.ZAP_DOMAIN = b"nsedge"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCurve:
    """How a client proves who it is, and which core it takes for the right one.

    server_key: the core's public key, Z85.
    """

    pair: KeyPair
    server_key: Z85

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Have what `socket` connects to from now on prove to be that core."""
        socket.CURVE_SERVERKEY = self.server_key.encode()
        socket.CURVE_PUBLICKEY = self.pair.public.encode()
        socket.CURVE_SECRETKEY = self.pair.secret.encode()


def check_key(text: str) -> Z85:
    """`text`, which is a key.

    Raises:
        ConfigInvalid: where it is not 40 characters of Z85.
    """
    if not _Z85.fullmatch(text):
        raise ConfigInvalid("a CURVE key has 40 characters of Z85, as `nsedge keys` prints it")
    return text
