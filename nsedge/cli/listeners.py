"""Where the shim's doors listen, as configured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from nsedge.config.endpoints import Endpoint, TcpEndpoint
from nsedge.config.pairs import DoorAddress, extra_listeners, listeners, wyoming
from nsedge.config.settings import Settings
from nsedge.errors import ConfigInvalid
from nsedge.web.answering import Answering
from nsedge.web.app import create_app
from nsedge.web.door import Door
from nsedge.web.listening import Listener
from nsedge.web.wyoming.server import WyomingAddress

log = logging.getLogger("nsedge.web")


def listeners_of(
    settings: Settings,
    answering: Answering,
    through: Sequence[Door],
    *,
    inherited: Mapping[Endpoint, int],
    on_listening: Callable[[str, int], None],
) -> list[Listener]:
    """The listener of the doors that stand together, which `on_listening` is told of, and those at
    the addresses that doors have of their own, or besides. Each takes the sockets that listen there
    already; the first also those that nobody else takes.

    Raises:
        ConfigInvalid: an address for a door that is none, one where the others listen, or no door
            left beside the others.
    """
    own = _own_addresses(settings, through)
    extra = extra_listeners(settings.web)
    shared = TcpEndpoint(settings.web.host, settings.web.port)
    for key, pairs in (("web.listeners", own), ("web.extra_listeners", extra)):
        _check(key, pairs, through, shared)
    _refuse_both(own, extra)
    moved = {door for door, _ in own}
    together = [door for door in through if door.name not in moved]
    if not together:
        raise ConfigInvalid("every door has an address of its own", param="web.listeners")
    left = dict(inherited)
    app = create_app(answering, together)
    apps, apart = [app], []
    order = [door.name for door in through]
    pairs = sorted([*own, *extra], key=lambda pair: order.index(pair[0]))
    for address, names in _by_address(pairs):
        there = [door for door in through if door.name in names]
        apps.append(create_app(answering, there, opened=apps))
        passed = [left.pop(address)] if address in left else []
        apart.append(
            Listener(
                app=apps[-1],
                host=address.host,
                port=address.port,
                inherited=passed,
                on_listening=partial(
                    _log_address, names, "https" if settings.web.tls_cert else "http"
                ),
            )
        )
    first = Listener(
        app=app,
        host=shared.host,
        port=shared.port,
        inherited=list(left.values()),
        on_listening=on_listening,
    )
    return [first, *apart]


def wyoming_address(settings: Settings) -> WyomingAddress | None:
    """Where Wyoming's clients are heard, if anywhere."""
    place = wyoming(settings.doors)
    if place is None:
        return None
    told = partial(_log_address, ["wyoming"], "tcp")
    return WyomingAddress(host=place.host, port=place.port, on_listening=told)


def _log_address(names: Sequence[str], scheme: str, host: str, port: int) -> None:
    log.info(
        "listening",
        extra={
            "doors": ", ".join(names),
            "address": str(TcpEndpoint(host, port)).replace("tcp", scheme, 1),
        },
    )


def _own_addresses(settings: Settings, through: Sequence[Door]) -> list[DoorAddress]:
    """Where doors are that do not stand with the others: by the settings, or else by default."""
    said = listeners(settings.web)
    moved = {door for door, _ in said}
    by_default = [
        (door.name, TcpEndpoint(settings.web.host, door.port))
        for door in through
        if door.port is not None and door.name not in moved
    ]
    return [*by_default, *said]


def _by_address(pairs: Sequence[DoorAddress]) -> list[tuple[TcpEndpoint, list[str]]]:
    """The doors at each address, in the order in which these are named first. Port 0 is a free
    one each time."""
    found: list[tuple[TcpEndpoint, list[str]]] = []
    places: dict[TcpEndpoint, list[str]] = {}
    for door, address in pairs:
        if address.port and address in places:
            places[address].append(door)
        else:
            places[address] = [door]
            found.append((address, places[address]))
    return found


def _check(
    key: str, pairs: Sequence[DoorAddress], through: Sequence[Door], shared: TcpEndpoint
) -> None:
    names = [door.name for door in through]
    for name, address in pairs:
        if name not in names:
            raise ConfigInvalid(
                f"there is no door {name!r}; there are {', '.join(names)}", param=key
            )
        if address.port and address == shared:
            raise ConfigInvalid(
                f"{name}: at {address.host}:{address.port} (web.host, web.port) the doors stand "
                "together",
                param=key,
            )


def _refuse_both(own: Sequence[DoorAddress], extra: Sequence[DoorAddress]) -> None:
    """A door cannot stand apart from the others and beside them."""
    moved = {door for door, _ in own}
    for name, _ in extra:
        if name in moved:
            raise ConfigInvalid(
                f"{name} has an address of its own (web.listeners), and may have several there",
                param="web.extra_listeners",
            )
