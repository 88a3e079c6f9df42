"""CURVE on tcp: who gets in, who does not, and what each is told; over real loopback sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import stat
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

import pytest

from nsedge.api import Finished
from nsedge.errors import ConfigInvalid, ConnectionLost, Forbidden
from nsedge.ipc.access import Access
from nsedge.ipc.client import AsyncClient, ClientCurve, KeyPair, Media, MediaPart, Message, Role
from nsedge.ipc.curve import ServerCurve, check_key
from nsedge.ipc.server import Server
from nsedge.security import keyring
from nsedge.security.keyring import CurveClient, KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from tests.fakes import MODEL, FakeService
from tests.ipc import QUICK, RawClient, gathered, text_of

ALL = (Scope.INFER, Scope.MANAGE, Scope.READ)
PICTURE = Media(type="image/png", data=b"a picture")


def free_port() -> int:
    """A port whose successor is free too."""
    while True:
        with socket.socket() as one, socket.socket() as next_one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if port < 65535:
                try:
                    next_one.bind(("127.0.0.1", port + 1))
                except OSError:
                    continue
                return port


@dataclass
class Door:
    """A core behind CURVE, with a socket file beside."""

    tcp: str
    ipc: str
    folder: Path
    server: KeyPair
    friend: KeyPair

    def keys(self, pair: KeyPair | None = None) -> ClientCurve:
        return ClientCurve(pair=pair or self.friend, server_key=self.server.public)

    def let_in(self, *scopes: Scope) -> None:
        clients = ()
        if scopes:
            friend = CurveClient(name="friend", scopes=scopes, public_key=self.friend.public)
            clients = (friend,)
        keyring.write(self.folder / "clients.json", KeyRing(curve=clients))


def behind_curve(folder: Path, test: Callable[[Door], Coroutine[None, None, None]]) -> None:
    server, friend = (KeyPair.make(folder / f"{name}.key_secret") for name in ("core", "friend"))
    port = free_port()
    door = Door(
        tcp=f"tcp://127.0.0.1:{port}",
        ipc=f"ipc://{folder}/core.sock",
        folder=folder,
        server=server,
        friend=friend,
    )
    door.let_in(*ALL)
    clients = WatchedFile(folder / "clients.json", keyring.read, look_s=0.0)

    async def main() -> None:
        core = Server(
            FakeService(),
            endpoints=[door.tcp, door.ipc],
            limits=QUICK,
            access=Access(curve=ServerCurve(pair=server, clients=clients)),
        )
        await core.start()
        try:
            async with asyncio.timeout(60):
                await test(door)
        finally:
            await core.stop()

    asyncio.run(main())


def test_a_known_key_comes_in_and_is_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def test(door: Door) -> None:
        async with AsyncClient(door.tcp, curve=door.keys()) as client:
            assert text_of(await gathered(client.generate(MODEL, "one two"))) == "one two"
            assert (await client.health()).version == "0"

    behind_curve(tmp_path, test)
    told = [vars(record).get("from") for record in caplog.records]
    assert "friend at 127.0.0.1" in told


async def naming(client: RawClient, sha256: str) -> str:
    """The code, or the reason, that a request ends with which names media."""
    await client.hello("1.3")
    part = {"type": "media", "media_type": "image/png", "sha256": sha256}
    said = [{"role": "user", "content": [part]}]
    await client.say({"type": "chat", "id": "a", "model": MODEL, "messages": said})
    end = (await client.hear_until_end("a"))[-1]
    return str(end.get("code") or end["reason"])


def shown() -> Message:
    return Message(role=Role.USER, content=(MediaPart(media=PICTURE),))


def test_media_of_one_client_are_not_there_for_another(tmp_path: Path) -> None:
    async def test(door: Door) -> None:
        async with AsyncClient(door.tcp, curve=door.keys()) as friend:
            assert isinstance((await gathered(friend.chat(MODEL, [shown()])))[-1], Finished)
            async with RawClient(door.ipc) as local:
                assert await naming(local, PICTURE.sha256) == "unknown_media"
        async with AsyncClient(door.ipc) as local:
            assert isinstance((await gathered(local.chat(MODEL, [shown()])))[-1], Finished)
        async with RawClient(door.ipc) as same_user:
            assert await naming(same_user, PICTURE.sha256) == "stop"

    behind_curve(tmp_path, test)


def test_who_has_no_name_shares_media_with_no_other_session() -> None:
    async def main() -> None:
        endpoint = f"tcp://127.0.0.1:{free_port()}"
        core = Server(FakeService(), endpoints=[endpoint], limits=QUICK)
        await core.start()
        try:
            async with AsyncClient(endpoint) as client, RawClient(endpoint) as other:
                assert isinstance((await gathered(client.chat(MODEL, [shown()])))[-1], Finished)
                assert await naming(other, PICTURE.sha256) == "unknown_media"
        finally:
            await core.stop()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_strange_key_is_refused_and_told_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(door: Door) -> None:
        stranger = KeyPair.make(tmp_path / "stranger.key_secret")
        with pytest.raises(Forbidden, match="does not let this CURVE key in"):
            await AsyncClient(door.tcp, curve=door.keys(stranger)).connect()

    behind_curve(tmp_path, test)
    assert "a CURVE key that is not let in" in caplog.text


def test_clear_text_gets_no_answer(tmp_path: Path) -> None:
    async def test(door: Door) -> None:
        with pytest.raises(ConnectionLost, match="do both sides use CURVE"):
            await AsyncClient(door.tcp).connect()

    behind_curve(tmp_path, test)


def test_a_client_does_not_talk_to_a_core_with_another_key(tmp_path: Path) -> None:
    async def test(door: Door) -> None:
        other = KeyPair.make(tmp_path / "other.key_secret")
        keys = ClientCurve(pair=door.friend, server_key=other.public)
        with pytest.raises(ConnectionLost, match="is its key the one we know"):
            await AsyncClient(door.tcp, curve=keys).connect()

    behind_curve(tmp_path, test)


def test_the_socket_file_needs_no_key_and_tells_the_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def test(door: Door) -> None:
        async with AsyncClient(door.ipc, curve=door.keys()) as client:
            assert (await client.models())[0].name == MODEL

    behind_curve(tmp_path, test)
    (told,) = [
        vars(record)["from"] for record in caplog.records if "session opens" in record.message
    ]
    assert told.startswith("uid ")
    assert ", pid " in told


def test_scopes_hold_for_curve_clients(tmp_path: Path) -> None:
    async def test(door: Door) -> None:
        door.let_in(Scope.READ)
        async with AsyncClient(door.tcp, curve=door.keys()) as client:
            assert (await client.stats()).requests_accepted == 0
            assert (await client.health()).version == "0"
            (end,) = await gathered(client.generate(MODEL, "one"))
            assert getattr(end, "code", None) == "forbidden"
            door.let_in(Scope.INFER)
            events = await gathered(client.generate(MODEL, "one"))
            assert isinstance(events[-1], Finished)
            with pytest.raises(Forbidden, match="scope 'read'"):
                await client.models()

    behind_curve(tmp_path, test)


def test_a_client_taken_off_the_list_is_refused_at_its_next_request(tmp_path: Path) -> None:
    async def test(door: Door) -> None:
        async with AsyncClient(door.tcp, curve=door.keys()) as client:
            door.let_in()
            (end,) = await gathered(client.generate(MODEL, "one"))
            assert getattr(end, "code", None) == "forbidden"
        with pytest.raises(Forbidden):
            await AsyncClient(door.tcp, curve=door.keys()).connect()

    behind_curve(tmp_path, test)


def test_a_pair_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "core.key_secret"
    pair = KeyPair.make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyPair.read(path) == pair
    assert pair.secret not in repr(pair)
    assert pair.secret not in path.with_suffix(".key").read_text(encoding="utf-8")
    with pytest.raises(ConfigInvalid, match="there already"):
        KeyPair.make(path)
    assert KeyPair.read(path) == pair


def test_secrets_open_to_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "core.key_secret"
    KeyPair.make(path)
    path.chmod(0o644)
    with pytest.raises(ConfigInvalid, match="may be read by others"):
        KeyPair.read(path)
    path.chmod(0o620)
    with pytest.raises(ConfigInvalid, match="may be written by others"):
        KeyPair.read(path)


def test_what_holds_no_pair_is_told(tmp_path: Path) -> None:
    KeyPair.make(tmp_path / "core.key_secret")
    with pytest.raises(ConfigInvalid, match="holds no secret key"):
        KeyPair.read(tmp_path / "core.key")
    (tmp_path / "none").write_text("no key", encoding="utf-8")
    (tmp_path / "none").chmod(0o600)
    with pytest.raises(ConfigInvalid, match="none"):
        KeyPair.read(tmp_path / "none")
    with pytest.raises(ConfigInvalid, match=r"must end in \.key_secret"):
        KeyPair.make(tmp_path / "core.pem")
    with pytest.raises(ConfigInvalid, match="40 characters"):
        check_key("short")
