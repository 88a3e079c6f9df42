"""Where doors listen: beside each other, or as the settings and the doors have it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from nsedge.cli.listeners import listeners_of
from nsedge.config.endpoints import Endpoint, TcpEndpoint
from nsedge.config.reader import Override, load
from nsedge.errors import ConfigInvalid
from nsedge.web import doors
from nsedge.web.answering import Answering
from nsedge.web.door import DOORS, Door
from nsedge.web.doors.openai.responses.store import STORE
from nsedge.web.doors.studio.studio import STUDIO
from nsedge.web.listening import Listener
from tests.fakes import FakeService

PLACES = ("/v1/models", "/api/generate", "/live", "/chat")


def listening(
    *said: str,
    extra: Sequence[str] = (),
    through: tuple[Door, ...] = doors.ALL,
    inherited: dict[Endpoint, int] | None = None,
) -> list[Listener]:
    overrides = [
        Override(flag="--set", key=key, text=",".join(addresses))
        for key, addresses in (("web.listeners", said), ("web.extra_listeners", extra))
        if addresses
    ]
    settings = load({"HOME": "/nowhere"}, overrides=overrides).settings
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


def test_a_door_may_be_at_further_addresses_and_stay_beside_the_others() -> None:
    said = ("chat=127.0.0.1:8000", "openai=127.0.0.1:8000", "chat=[::1]:8001")
    first, both, again = listening(extra=said)
    assert reached(first) == ("127.0.0.1", 3009, [*PLACES])
    assert reached(both) == ("127.0.0.1", 8000, ["/v1/models", "/chat"])
    assert reached(again) == ("::1", 8001, ["/chat"])


def test_a_door_apart_may_have_several_addresses() -> None:
    first, *own = listening("chat=127.0.0.1:8000", "chat=127.0.0.2:8000")
    assert "/chat" not in reached(first)[2]
    assert [reached(one) for one in own] == [
        ("127.0.0.1", 8000, ["/chat"]),
        ("127.0.0.2", 8000, ["/chat"]),
    ]


def test_what_a_door_keeps_is_the_same_at_all_its_addresses() -> None:
    first, responses, studio = listening(extra=("openai=127.0.0.1:8000", "studio=127.0.0.1:8001"))
    assert responses.app[STORE] is first.app[STORE]
    assert studio.app[STUDIO] is first.app[STUDIO]


@pytest.mark.parametrize(
    ("own", "extra", "complaint"),
    [
        ([], ["opening=127.0.0.1:1"], "no door 'opening'; there are openai, "),
        ([], ["chat=127.0.0.1:3009"], "chat: at 127.0.0.1:3009 (web.host, web.port)"),
        (["chat=h:1"], ["chat=h:2"], "chat has an address of its own (web.listeners)"),
        ([], ["chat=h:1", "chat=h:1"], "chat=h:1 is there twice"),
        ([], ["chat=8000"], "web.extra_listeners"),
    ],
)
def test_further_addresses_that_cannot_be_are_refused(
    own: list[str], extra: list[str], complaint: str
) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        listening(*own, extra=extra)
    assert complaint in caught.value.message
