"""A door: one wire shape that clients speak. The application is a tuple of them, and knows none
by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from nsedge.web.access import declared_as
from nsedge.web.errors import Refusal

JSON = "application/json"
UNTYPED = ""
"""Stands among body types for a body that says none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A route at a path that is another door's, too, where that door is at the same address.

    claims: whether a request there speaks this door's shape. It may read the body, and raises what
    reading it does.
    """

    route: web.RouteDef
    claims: Callable[[web.Request], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What clients of one wire shape find. How it frames a stream is with its `AnswerStream`s.

    - name: what it is called in messages.
    - prefixes: its paths; those below them are its own, too. Whatever goes wrong there is told in
      its shape, paths that are no route included. `/` stands for all that no other door has.
    - routes: each at or below one of the prefixes. Their handlers say what they want of a caller
      (`nsedge.web.access`).
    - shared: routes at other doors' paths. Where the other door is not at hand they are this one's.
    - body_types: the content types of the bodies that it reads.
    - port: of a listener of its own, by default; None stands beside the others. `web.listeners` can
      give any door an address of its own, `web.extra_listeners` a further one.
    - id_header: a header that names the request, beside `X-Request-Id`.
    - opens: is given the application that the door is part of, to prepare what it keeps there; of
      several, the first. keeps: the keys of that, which the others share.
    - error_body: the body that tells of a refusal, which is of the content type `error_type`.
    - error_kind: the type of that body where it is JSON.
    """

    name: str
    prefixes: tuple[str, ...]
    routes: tuple[web.RouteDef, ...]
    error_body: Callable[[Refusal], bytes]
    shared: tuple[Shared, ...] = ()
    error_type: str = JSON
    error_kind: Any = None
    body_types: tuple[str, ...] = (JSON,)
    port: int | None = None
    id_header: str | None = None
    opens: Callable[[web.Application], None] | None = None
    keeps: tuple[web.AppKey[Any], ...] = ()

    def refuse(self, refusal: Refusal) -> web.Response:
        """The answer that tells of `refusal`."""
        return web.Response(
            status=refusal.status,
            body=self.error_body(refusal),
            content_type=self.error_type,
            headers=refusal.headers(),
        )


class Doors:
    """Doors side by side, at one address."""

    def __init__(self, doors: Sequence[Door]) -> None:
        """Raises ValueError where there is none, two want one path, one has a route at a path of
        another's, or two that share a route want different scopes of a caller."""
        if not doors:
            raise ValueError("no door is given")
        self._doors = tuple(doors)
        self._owners: dict[str, Door] = {}
        for door in doors:
            for prefix in door.prefixes:
                other = self._owners.setdefault(prefix, door)
                if other is not door:
                    raise ValueError(f"the doors {other.name} and {door.name} both want {prefix}")
        for door in doors:
            for route in door.routes:
                if self.of(route.path) is not door:
                    owner = self.of(route.path).name
                    raise ValueError(f"{route.path} of the door {door.name} is {owner}'s path")
        self._sharing: dict[str, list[Door]] = {}
        self.routes = self._all_routes()

    def __iter__(self) -> Iterator[Door]:
        """The doors, in order."""
        return iter(self._doors)

    def of(self, path: str) -> Door:
        """The door that `path` belongs to: the one with the longest prefix of it, or else the
        first."""
        while path:
            if path in self._owners:
                return self._owners[path]
            path = path.rpartition("/")[0]
        return self._owners.get("/", self._doors[0])

    def spoken_by(self, request: web.BaseRequest) -> Door:
        """The door whose shape `request` speaks, as far as that is known."""
        return request.get(SPOKEN) or self.of(request.path)

    def body_types(self, path: str) -> tuple[str, ...]:
        """The content types of bodies that are read at `path`, by whichever door."""
        readers = [self.of(path), *self._sharing.get(path, ())]
        return tuple(dict.fromkeys(each for door in readers for each in door.body_types))

    def _all_routes(self) -> list[web.RouteDef]:
        routes = {
            (route.method, route.path): route for door in self._doors for route in door.routes
        }
        for door in self._doors:
            for shared in door.shared:
                place = (shared.route.method, shared.route.path)
                if place in routes:
                    routes[place] = _either(door, shared, routes[place])
                    self._sharing.setdefault(shared.route.path, []).append(door)
                else:
                    routes[place] = shared.route
                    self._owners.setdefault(shared.route.path, door)
        return list(routes.values())


def _either(door: Door, shared: Shared, other: web.RouteDef) -> web.RouteDef:
    """One route for both: the handler of `door` where it claims the request, else that of
    `other`."""
    mine: Handler = shared.route.handler
    theirs: Handler = other.handler

    async def choose(http: web.Request) -> web.StreamResponse:
        if await shared.claims(http):
            http[SPOKEN] = door
            return await mine(http)
        return await theirs(http)

    return web.RouteDef(other.method, other.path, declared_as(choose, mine, theirs), other.kwargs)


DOORS = web.AppKey("doors", Doors)
SPOKEN = web.RequestKey("spoken", Door)
"""The door that claimed a request at a shared path."""
