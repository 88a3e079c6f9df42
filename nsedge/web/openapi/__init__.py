"""What there is to call, as OpenAPI 3.1 tells it: made of the doors, their routes, and the types
that their bodies are read as and their answers have; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from aiohttp import web

from nsedge.version import VERSION
from nsedge.web.access import scope_of
from nsedge.web.bodies import given_by, query_of, taken_by
from nsedge.web.door import Door
from nsedge.web.multipart import FORM
from nsedge.web.openapi.answers import responses
from nsedge.web.openapi.links import PARAMETER, bare, operation_id
from nsedge.web.openapi.types import Types

KEY = "key"
"""What the document calls an API key."""
_MEDIA = {
    "image": {"contentType": "image/png, image/jpeg, image/webp, image/gif"},
    "audio": {"contentType": "audio/wav, audio/flac, audio/ogg, audio/mpeg"},
    "video": {"contentType": "video/mp4, video/webm, video/quicktime, image/gif, image/webp"},
}
"""Files of forms that are called as the kind that they must be of, and the usual types of it."""
_METHODS = frozenset({"GET", "POST", "DELETE"})


def document(doors: Iterable[Door], *, keys: bool) -> dict[str, Any]:
    """The doors at one address, where `keys` are asked for or not."""
    doors = tuple(doors)
    routes = [(door, route) for door in doors for route in _routes(door)]
    types = _types_of(routes)
    paths: dict[str, dict[str, Any]] = {}
    for door, route in routes:
        at = paths.setdefault(bare(route.path), {})
        told = _operation(door, route, types, keys=keys)
        method = route.method.lower()
        at[method] = _either(at[method], told) if method in at else told
    secured = {"securitySchemes": {KEY: {"type": "http", "scheme": "bearer"}}} if keys else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "nsedge", "version": VERSION},
        "tags": [{"name": door.name, "description": _doc(door)} for door in doors],
        "paths": paths,
        "components": {"schemas": types.components, **secured},
        **({"security": [{KEY: []}]} if keys else {}),
    }


def _routes(door: Door) -> Iterator[web.RouteDef]:
    for route in (*door.routes, *(shared.route for shared in door.shared)):
        if route.method in _METHODS:
            yield route


def _types_of(routes: Sequence[tuple[Door, web.RouteDef]]) -> Types:
    kinds: list[Any] = []
    closed: list[Any] = []
    for door, route in routes:
        kinds.append(door.error_kind)
        if (taken := taken_by(route.handler)) is not None:
            kinds += [taken.kind, *taken.parts.values()]
            if taken.others is not None and taken.others.refuse_unknown:
                closed.append(taken.kind)
        if (given := given_by(route.handler)) is not None:
            kinds.append(given.kind)
        kinds.append(query_of(route.handler))
    types = Types(filter(None, kinds), closed=closed)
    for _, route in routes:
        if (taken := taken_by(route.handler)) is not None:
            types.tell_parts(taken.kind, taken.parts)
    return types


def _operation(door: Door, route: web.RouteDef, types: Types, *, keys: bool) -> dict[str, Any]:
    scope, taken = scope_of(route.handler), taken_by(route.handler)
    told: dict[str, Any] = {
        "tags": [door.name],
        "operationId": operation_id(door, route.method, route.path),
        "summary": _summary(route),
        "responses": responses(door, route, types, keys=keys),
    }
    if parameters := list(_parameters(route, types)):
        told["parameters"] = parameters
    if taken is not None:
        schemas = {
            name: types.form_of(taken) if name == FORM else types.of(taken.kind)
            for name in taken.types
        }
        content: dict[str, Any] = {name: {"schema": one} for name, one in schemas.items()}
        if media := {name: _MEDIA[name] for name in taken.files if name in _MEDIA}:
            content[FORM]["encoding"] = media
        told["requestBody"] = {"required": True, "content": content}
    if scope is None:
        told["security"] = []
    else:
        told["x-scope"] = scope.value
    return told


def _parameters(route: web.RouteDef, types: Types) -> Iterator[dict[str, Any]]:
    for name, _ in PARAMETER.findall(route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    if (query := query_of(route.handler)) is not None:
        fields, required = types.texts_of(query)
        for name, schema in fields.items():
            yield {"name": name, "in": "query", "required": name in required, "schema": schema}


def _either(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A path that two doors answer, by what the request says."""
    both = one | {"tags": one["tags"] + other["tags"]}
    bodies = [each["requestBody"]["content"] for each in (one, other) if "requestBody" in each]
    if bodies:
        both["requestBody"] = {"required": True, "content": _any_of(*bodies)}
    both["responses"] = dict(one["responses"])
    for status, response in other["responses"].items():
        mine = both["responses"].get(status, response)
        content = _any_of(mine.get("content", {}), response.get("content", {}))
        both["responses"][status] = mine | ({"content": content} if content else {})
    return both


def _any_of(*contents: dict[str, Any]) -> dict[str, Any]:
    """The schemas of several contents, type by type."""
    found: dict[str, Any] = {}
    for content in contents:
        for media_type, told in content.items():
            if media_type not in found:
                found[media_type] = told
            elif (one := found[media_type]["schema"]) != (other := told["schema"]):
                found[media_type] = told | {"schema": {"anyOf": [one, other]}}
    return found


def _summary(route: web.RouteDef) -> str:
    """The first sentence of what the handler says of itself, after the route."""
    text = " ".join((route.handler.__doc__ or "").partition("\n\n")[0].split())
    text = re.sub(r"^(`[^`]+`(, | and )?)+:? *", "", text)
    return text.rstrip(".") or f"{route.method} {route.path}"


def _doc(door: Door) -> str:
    return f"docs/doors/{door.name}.md"
