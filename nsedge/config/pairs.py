"""Settings that are lists of NAME=VALUE, as what they mean."""

from __future__ import annotations

from collections.abc import Iterable

from nsedge.api import ToolFormat
from nsedge.api.models import keep_alive_of
from nsedge.config.endpoints import TcpEndpoint
from nsedge.config.settings import Doors, Models, Web
from nsedge.errors import InvalidParameter

MAX_PORT = 65535

DoorAddress = tuple[str, TcpEndpoint]
"""A door by its name, and an address of it."""


def named(pairs: Iterable[str]) -> dict[str, str]:
    """NAME=VALUE entries as a map. Raises ValueError for one without both."""
    found = {}
    for pair in pairs:
        name, _, value = (part.strip() for part in pair.partition("="))
        if not name or not value:
            raise ValueError(f"{pair!r} is not NAME=VALUE")
        found[name] = value
    return found


def keep_alives(models: Models) -> dict[str, float]:
    """Models with a keep-alive of their own, in seconds. Raises ValueError for one that is none."""
    try:
        return {name: keep_alive_of(text) for name, text in named(models.keep_alives).items()}
    except InvalidParameter as error:
        raise ValueError(error.message) from error


def tool_formats(models: Models) -> dict[str, ToolFormat]:
    """Models with a form of tool calls of their own. Raises ValueError for one that is none."""
    found = {}
    for name, form in named(models.tool_formats).items():
        if form not in set(ToolFormat):
            raise ValueError(f"{name}={form}: the forms are {', '.join(ToolFormat)}")
        found[name] = ToolFormat(form)
    return found


def listeners(web: Web) -> list[DoorAddress]:
    """Addresses of doors that stand apart from the others. Raises ValueError for one that is
    none."""
    return _addresses(web.listeners)


def extra_listeners(web: Web) -> list[DoorAddress]:
    """Further addresses of doors that stand with the others, too. Raises ValueError for one that is
    none."""
    return _addresses(web.extra_listeners)


def wyoming(doors: Doors) -> TcpEndpoint | None:
    """Where Wyoming's clients are heard, if anywhere. Raises ValueError for what is no address."""
    return _address(doors.wyoming, "HOST:PORT") if doors.wyoming else None


def _addresses(pairs: Iterable[str]) -> list[DoorAddress]:
    """DOOR=HOST:PORT entries; a door may have several."""
    found = []
    for pair in pairs:
        ((door, address),) = named([pair]).items()
        place = _address(address, "DOOR=HOST:PORT", f"{door}={address}")
        if place.port and (door, place) in found:
            raise ValueError(f"{door}={address} is there twice")
        found.append((door, place))
    return found


def _address(text: str, form: str, shown: str | None = None) -> TcpEndpoint:
    """HOST:PORT as an address. Raises ValueError, which shows `shown`, where it is none."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > MAX_PORT:
        raise ValueError(f"{shown or text} is not {form}")
    return TcpEndpoint(host.removeprefix("[").removesuffix("]"), int(port))
