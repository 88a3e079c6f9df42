"""HTTPS from two files, which may be renewed while the shim runs."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

from nsedge.errors import ConfigInvalid
from nsedge.security.keyring import OTHERS_READ, OTHERS_WRITE, refuse_lax
from nsedge.security.watched_file import WatchedFile


def server_context(
    cert: Path, key: Path, *, clock: Callable[[], float] = time.monotonic
) -> ssl.SSLContext:
    """A context for TLS 1.2 and later; a handshake that finds the files changed uses the new ones.

    Open connections keep what they began with. Files that do not fit together change nothing.

    Raises:
        ConfigInvalid: files that cannot be read, are no pair, or a private key open to others.
    """
    current = WatchedFile(cert, lambda path: _load(path, key), also=(key,), clock=clock)

    def renew(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = current.value()

    listening = _load(cert, key)
    listening.sni_callback = renew
    return listening


def _load(cert: Path, key: Path) -> ssl.SSLContext:
    refuse_lax(key, OTHERS_READ | OTHERS_WRITE)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"{cert} and {key} are no certificate with its key: {error}") from error
    return context


def _no_password() -> str:
    """Instead of a question at a terminal that is not there."""
    raise ValueError("the private key is encrypted")
