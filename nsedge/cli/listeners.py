"""Where the shim's doors listen, as configured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nsedge.config.endpoints import Endpoint, TcpEndpoint
from nsedge.config.pairs import listeners
from nsedge.config.settings import Settings
from nsedge.errors import ConfigInvalid
from nsedge.web.answering import Answering
from nsedge.web.app import create_app
from nsedge.web.door import Door
from nsedge.web.listening import Listener


def listeners_of(
    settings: Settings,
    answering: Answering,
    through: Sequence[Door],
    *,
    inherited: Mapping[Endpoint, int],
    on_listening: Callable[[str, int], None],
) -> list[Listener]:
    """The listener of the doors that stand together, which `on_listening` is told of, and those of
    doors with an address of their own. Each takes the sockets that listen there already; the
    first also those that nobody else takes.

    Raises:
        ConfigInvalid: an address for a door that is none, or no door left beside the others.
    """
    own = _own_addresses(settings, through)
    together = [door for door in through if door.name not in own]
    if not together:
        raise ConfigInvalid("every door has an address of its own", param="web.listeners")
    left = dict(inherited)
    apart = []
    for door in through:
        if door.name in own:
            address = own[door.name]
            passed = [left.pop(address)] if address in left else []
            app = create_app(answering, (door,))
            apart.append(Listener(app=app, host=address.host, port=address.port, inherited=passed))
    first = Listener(
        app=create_app(answering, together),
        host=settings.web.host,
        port=settings.web.port,
        inherited=list(left.values()),
        on_listening=on_listening,
    )
    return [first, *apart]


def _own_addresses(settings: Settings, through: Sequence[Door]) -> dict[str, TcpEndpoint]:
    own = {
        door.name: TcpEndpoint(settings.web.host, door.port)
        for door in through
        if door.port is not None
    }
    own |= listeners(settings.web)
    names = [door.name for door in through]
    for name in own:
        if name not in names:
            raise ConfigInvalid(
                f"there is no door {name!r}; there are {', '.join(names)}", param="web.listeners"
            )
    return own
