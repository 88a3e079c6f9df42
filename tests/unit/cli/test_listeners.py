"""Where doors listen: beside each other, or as the settings and the doors have it."""

from __future__ import annotations

import dataclasses

import pytest

from nsedge.cli.listeners import listeners_of
from nsedge.config.endpoints import Endpoint, TcpEndpoint
from nsedge.config.reader import Override, load
from nsedge.errors import ConfigInvalid
from nsedge.web import doors
from nsedge.web.answering import Answering
from nsedge.web.door import DOORS, Door
from nsedge.web.listening import Listener
from tests.fakes import FakeService

PLACES = ("/v1/models", "/api/generate", "/live")


def listening(
    *said: str, through: tuple[Door, ...] = doors.ALL, inherited: dict[Endpoint, int] | None = None
) -> list[Listener]:
    override = Override(flag="--set", key="web.listeners", text=",".join(said))
    settings = load({"HOME": "/nowhere"}, overrides=[override] if said else []).settings
    return listeners_of(
        settings,
        Answering(FakeService()),
        through,
        inherited=inherited or {},
        on_listening=lambda host, port: None,
    )


def reached(listener: Listener) -> tuple[str, int, list[str]]:
    paths = [route.path for route in listener.app[DOORS].routes]
    return listener.host, listener.port, [path for path in PLACES if path in paths]


def test_all_doors_stand_together_unless_told_otherwise() -> None:
    (one,) = listening()
    assert reached(one) == ("127.0.0.1", 3009, [*PLACES])


def test_a_door_listens_where_the_settings_say() -> None:
    three = (doors.openai.DOOR, doors.generate.DOOR, doors.operations.DOOR)
    said = ("operations=[::1]:9100", "openai=0.0.0.0:8000")
    first, openai, operations = listening(*said, through=three)
    assert reached(first) == ("127.0.0.1", 3009, ["/api/generate"])
    assert reached(openai) == ("0.0.0.0", 8000, ["/v1/models"])
    assert reached(operations) == ("::1", 9100, ["/live"])


def test_a_door_may_have_a_port_of_its_own_and_the_settings_go_first() -> None:
    generate = dataclasses.replace(doors.generate.DOOR, port=8001)
    through = (doors.openai.DOOR, generate)
    assert reached(listening(through=through)[1]) == ("127.0.0.1", 8001, ["/api/generate"])
    (_, own) = listening("generate=127.0.0.2:8002", through=through)
    assert reached(own) == ("127.0.0.2", 8002, ["/api/generate"])


def test_sockets_of_a_supervisor_go_to_the_door_whose_address_they_have() -> None:
    passed: dict[Endpoint, int] = {
        TcpEndpoint("127.0.0.1", 8000): 4,
        TcpEndpoint("127.0.0.1", 80): 5,
    }
    first, openai = listening("openai=127.0.0.1:8000", inherited=passed)
    assert (list(first.inherited), list(openai.inherited)) == ([5], [4])


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (["opening=127.0.0.1:1"], "no door 'opening'; there are openai, "),
        ([f"{door.name}=127.0.0.1:8000" for door in doors.ALL], "every door has an address"),
        (["openai=8000"], "openai=8000 is not DOOR=HOST:PORT"),
        (["openai=h:65536"], "is not DOOR=HOST:PORT"),
        (["openai"], "'openai' is not NAME=VALUE"),
    ],
)
def test_what_cannot_be_is_refused(said: list[str], complaint: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        listening(*said)
    assert complaint in caught.value.message
