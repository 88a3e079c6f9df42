"""A door: one wire shape that clients speak. The application is a tuple of them, and knows none
by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from nsedge.web.errors import Refusal

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What clients of one wire shape find. How it frames a stream is with its `AnswerStream`s.

    - name: what it is called in messages.
    - prefixes: its paths; those below them are its own, too. Whatever goes wrong there is told in
      its shape, paths that are no route included. `/` stands for all that no other door has.
    - routes: each at or below one of the prefixes. Their handlers say what they want of a caller
      (`nsedge.web.access`).
    - body_types: the content types of the bodies that it reads.
    - port: of a listener of its own, by default; None stands beside the others. `web.listeners` can
      give any door an address of its own.
    - error_body: the body that tells of a refusal, which is of the type `error_type`.
    """

    name: str
    prefixes: tuple[str, ...]
    routes: tuple[web.RouteDef, ...]
    error_body: Callable[[Refusal], bytes]
    error_type: str = JSON
    body_types: tuple[str, ...] = (JSON,)
    port: int | None = None

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
        """Raises ValueError where there is none, two want one path, or one has a route at a path
        of another's."""
        if not doors:
            raise ValueError("no door is given")
        self._doors = tuple(doors)
        self._owners: dict[str, Door] = {}
        for door in doors:
            for prefix in door.prefixes:
                other = self._owners.setdefault(prefix, door)
                if other is not door:
                    raise ValueError(f"the doors {other.name} and {door.name} both want {prefix}")
        self.routes = [route for door in doors for route in door.routes]
        for door in doors:
            for route in door.routes:
                if self.of(route.path) is not door:
                    owner = self.of(route.path).name
                    raise ValueError(f"{route.path} of the door {door.name} is {owner}'s path")

    def of(self, path: str) -> Door:
        """The door that `path` belongs to: the one with the longest prefix of it, or else the
        first."""
        while path:
            if path in self._owners:
                return self._owners[path]
            path = path.rpartition("/")[0]
        return self._owners.get("/", self._doors[0])


DOORS = web.AppKey("doors", Doors)
