"""Who sent a message: what libzmq tells, read with care."""

from __future__ import annotations

import pytest

from nsedge.errors import Forbidden
from nsedge.ipc.origin import Origin
from nsedge.security.keyring import EVERY_SCOPE, CurveClient, KeyRing, Scope


class Told:
    """A frame whose connection has these properties."""

    def __init__(self, address: str, user: str | None = None) -> None:
        self._told = {"Peer-Address": address, "User-Id": user}

    def get(self, name: str) -> str | None:
        return self._told[name]


def origin(address: str, user: str | None = None) -> Origin:
    return Origin.of(Told(address, user))  # type: ignore[arg-type]


def test_a_local_process_is_told_by_its_numbers() -> None:
    local = origin("localhost:1000:100:42")
    assert local.is_local
    assert str(local) == "uid 1000, gid 100, pid 42"
    assert local.caller(None).scopes == EVERY_SCOPE
    assert local.caller(KeyRing()).name == "uid 1000"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "10.0.0.4",
        "::1",
        "1::2",
        "::1:2",
        "1:2::",
        "2001:db8:1:2:3:4:5:6",
        "fe80::1%eth0",
    ],
)
def test_no_address_of_the_network_is_taken_for_a_local_process(address: str) -> None:
    remote = origin(address, "tablet")
    assert not remote.is_local
    with pytest.raises(Forbidden, match="'tablet' is no longer let in"):
        remote.caller(KeyRing())


def test_a_curve_client_has_the_scopes_of_its_entry() -> None:
    entry = CurveClient(name="tablet", scopes=(Scope.READ,), public_key="x" * 40)
    tablet = origin("10.0.0.4", "tablet")
    assert str(tablet) == "tablet at 10.0.0.4"
    assert tablet.caller(KeyRing(curve=(entry,))).scopes == {Scope.READ}


def test_clear_text_is_anonymous_where_no_key_is_asked_for_and_only_there() -> None:
    assert origin("127.0.0.1").caller(None).name == "anonymous"
    with pytest.raises(Forbidden):
        origin("127.0.0.1").caller(KeyRing())
