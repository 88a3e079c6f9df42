"""What `nsedge doctor` says of the shim, and of models that are only named."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from nsedge.cli import bundles, doctor
from nsedge.config.reader import Override, load
from nsedge.config.settings import Settings
from tests.fakes import FakeService
from tests.unit.bundles import write_bundle
from tests.web_server import running


@pytest.mark.parametrize("apart", [True, False])
def test_the_shim_is_looked_for_where_its_operations_are(apart: bool) -> None:
    async def scene() -> None:
        async with running(FakeService()) as shim:
            said = {"web.port": "1", "web.listeners": f"operations=127.0.0.1:{shim.port}"}
            said = said if apart else {"web.port": str(shim.port)}
            overrides = [Override(flag="--set", key=key, text=said[key]) for key in said]
            settings = load({"HOME": "/nowhere"}, overrides=overrides).settings
            check = await asyncio.to_thread(doctor.shim, settings)
            assert (check.state, check.detail) == (doctor.State.OK, f"listening at {shim.url}")

    asyncio.run(scene())


def settings_of(**said: str) -> Settings:
    overrides = [
        Override(flag="--set", key=key.replace("__", "."), text=text) for key, text in said.items()
    ]
    return load({"HOME": "/nowhere"}, overrides=overrides).settings


def test_a_shim_that_is_not_there_is_a_note_with_a_remedy() -> None:
    check = doctor.shim(settings_of(web__port="1"))
    assert check.state is doctor.State.NOTE
    assert check.detail == "nothing of ours at http://127.0.0.1:1 (Connection refused)"
    assert check.remedy == "`nsedge web` starts the HTTP shim"


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "(HTTP Error 404: Not Found)"),
        (b"SSH-2.0-OpenSSH_9.7\r\n", "(BadStatusLine)"),
    ],
)
def test_another_program_at_the_port_is_told_from_nobody(said: bytes, detail: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(said)

        other = threading.Thread(target=answer)
        other.start()
        port = server.getsockname()[1]
        check = doctor.shim(settings_of(web__port=str(port)))
        other.join()
    assert check.state is doctor.State.NOTE
    assert f"at http://127.0.0.1:{port} {detail}" in check.detail
    assert "another program" in check.detail
    assert check.remedy is not None
    assert "choose another web.port" in check.remedy


def test_aliases_and_keep_alives_of_what_is_not_there_are_told(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundles" / "tiny")
    (tmp_path / "bundles" / "broken").mkdir()
    (tmp_path / "bundles" / "broken" / "manifest.json").write_text("{")
    settings = settings_of(
        home=str(tmp_path),
        models__aliases="chat=tiny,code=tinny",
        models__keep_alives="tiny=5m,chat=1m,code=1m,tinny=2m",
    )
    assert list(bundles.strays(settings)) == [
        "models.aliases: code stands for tinny, which is not here; there are: tiny",
        "models.keep_alives: tinny, which is not here; there are: tiny",
    ]
    assert list(bundles.strays(settings_of(home=str(tmp_path)))) == []
