"""`nsedge keys`: API keys of the shim, CURVE keys of the core and its clients, and signatures."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from nsedge.bundle.adapter import open_package
from nsedge.cli import output
from nsedge.cli.exits import ExitStatus
from nsedge.config.reader import Loaded
from nsedge.config.settings import Settings
from nsedge.errors import InvalidParameter
from nsedge.ipc.curve import SECRET_SUFFIX, KeyPair, check_key
from nsedge.process import console
from nsedge.process.console import note
from nsedge.runtime.hosting import trust
from nsedge.security import keyring
from nsedge.security.keyring import ApiKey, CurveClient, KeyRing, Scope

Entry = TypeVar("Entry", ApiKey, CurveClient)
RING_FILE = "keys.json"
SIGNER_FILE = "signer.key"
CORE_FILE = f"core{SECRET_SUFFIX}"


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Do what the action says.

    Raises:
        ConfigInvalid: a file that cannot be used.
        OSError: naming the file, where it cannot be written.
        InvalidParameter: a name that is taken, unknown or none.
    """
    _ACTIONS[options.action](loaded.settings, options)
    return ExitStatus.OK


def _list(settings: Settings, options: argparse.Namespace) -> None:
    entries = []
    for kind, path in (("api", _api_file(settings)), ("curve", _clients_file(settings))):
        ring = _ring(path)
        found = ring.api if kind == "api" else ring.curve
        entries += [(kind, one.name, ",".join(one.scopes), str(path)) for one in found]
    if options.json:
        output.say_json(
            [
                {"kind": kind, "name": name, "scopes": scopes.split(","), "file": path}
                for kind, name, scopes, path in entries
            ]
        )
    else:
        console.say(*output.table(("KIND", "NAME", "SCOPES", "FILE"), entries))


def _add(settings: Settings, options: argparse.Namespace) -> None:
    path, secret = _api_file(settings), keyring.new_secret()
    ring = _ring(path)
    _refuse_taken(options.name, ring.api, path)
    entry = _checked(
        ApiKey(
            name=options.name,
            sha256=keyring.digest_of(secret),
            scopes=_scopes(options.scopes),
            requests_per_minute=options.requests_per_minute,
            tokens_per_minute=options.tokens_per_minute,
        )
    )
    keyring.write(path, msgspec.structs.replace(ring, api=(*ring.api, entry)))
    if options.json:
        output.say_json({"name": entry.name, "key": secret, "file": str(path)})
        return
    console.say(secret)
    note(f"kept as a hash in {path}: this is the only time the key itself is shown")
    if not settings.web.keys:
        note(f"nobody is asked for a key yet: set web.keys = {str(path)!r} for `nsedge web`")


def _remove(settings: Settings, options: argparse.Namespace) -> None:
    gone = []
    for path in {_api_file(settings), _clients_file(settings)}:
        ring = _ring(path)
        kept = KeyRing(
            api=tuple(one for one in ring.api if one.name != options.name),
            curve=tuple(one for one in ring.curve if one.name != options.name),
        )
        if kept != ring:
            keyring.write(path, kept)
            gone.append(str(path))
    if not gone:
        raise InvalidParameter(f"there is no key named {options.name!r}", param="name")
    if options.json:
        output.say_json({"name": options.name, "removed_from": sorted(gone)})
    else:
        console.say(f"removed {options.name} from {', '.join(sorted(gone))}")


def _server(settings: Settings, options: argparse.Namespace) -> None:
    said = settings.core.curve_secret
    path = Path(said) if said else _folder(settings) / CORE_FILE
    pair = KeyPair.make(path)
    if options.json:
        output.say_json({"public_key": pair.public, "file": str(path)})
        return
    console.say(pair.public)
    note(f"the core's public key; clients set client.server_key to it. The pair is in {path}")
    if not said:
        clients = _clients_file(settings)
        note(f"set core.curve_secret = {str(path)!r} and core.curve_clients = {str(clients)!r}")


def _client(settings: Settings, options: argparse.Namespace) -> None:
    path = _clients_file(settings)
    ring = _ring(path)
    _refuse_taken(options.name, ring.curve, path)
    scopes, public, own = _scopes(options.scopes), options.public, None
    if public is None:
        own = _folder(settings) / f"{options.name}{SECRET_SUFFIX}"
        _checked(CurveClient(name=options.name, scopes=scopes, public_key="0" * 40))
        public = KeyPair.make(own).public
    entry = CurveClient(name=options.name, scopes=scopes, public_key=check_key(public))
    try:
        keyring.write(path, msgspec.structs.replace(ring, curve=(*ring.curve, _checked(entry))))
    except OSError:
        if own is not None:
            KeyPair.remove(own)
        raise
    if options.json:
        own_file = None if own is None else str(own)
        output.say_json({"name": entry.name, "public_key": public, "file": own_file})
        return
    console.say(public)
    note(f"let in by {path}")
    if own is not None:
        note(f"the pair is in {own}: move it to the client, and set client.curve_secret to it")


def _signer(settings: Settings, options: argparse.Namespace) -> None:
    path = _signer_file(settings, options)
    public = str(trust.signatures().SecretKey.make(path).public)
    if options.json:
        output.say_json({"public_key": public, "file": str(path)})
        return
    console.say(public)
    note(f"the secret half is in {path}; machines that ask for it set models.signers = [KEY]")


def _sign(settings: Settings, options: argparse.Namespace) -> None:
    key = trust.signatures().SecretKey.read(_signer_file(settings, options))
    open_package(options.bundle).verify_hashes()
    target = key.sign(options.bundle)
    if options.json:
        output.say_json({"file": str(target), "public_key": str(key.public)})
    else:
        console.say(target)


_ACTIONS: dict[str, Callable[[Settings, argparse.Namespace], None]] = {
    "list": _list,
    "add": _add,
    "remove": _remove,
    "server": _server,
    "client": _client,
    "signer": _signer,
    "sign": _sign,
}


def _folder(settings: Settings) -> Path:
    return settings.home / "keys"


def _signer_file(settings: Settings, options: argparse.Namespace) -> Path:
    said: Path | None = options.key
    return said or _folder(settings) / SIGNER_FILE


def _api_file(settings: Settings) -> Path:
    said = settings.web.keys
    return Path(said) if said else _folder(settings) / RING_FILE


def _clients_file(settings: Settings) -> Path:
    said = settings.core.curve_clients
    return Path(said) if said else _folder(settings) / RING_FILE


def _ring(path: Path) -> KeyRing:
    return keyring.read(path) if path.exists() else KeyRing()


def _refuse_taken(name: str, entries: tuple[ApiKey | CurveClient, ...], path: Path) -> None:
    if any(entry.name == name for entry in entries):
        raise InvalidParameter(f"{path} has a key named {name!r} already", param="name")


def _scopes(words: str) -> tuple[Scope, ...]:
    try:
        return tuple(Scope(word) for word in words.split(","))
    except ValueError as error:
        names = ", ".join(Scope)
        raise InvalidParameter(f"scopes are {names}, not {words!r}", param="scopes") from error


def _checked(entry: Entry) -> Entry:
    """`entry`, held to what a key file takes."""
    try:
        return msgspec.convert(msgspec.to_builtins(entry), type(entry))
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"{error}", param="name") from error
