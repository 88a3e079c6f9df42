"""What there is to call, as OpenAPI 3.1 tells it: made of the doors, their routes, and the types
that their bodies are read as; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from aiohttp import web

from nsedge.version import VERSION
from nsedge.web.access import scope_of
from nsedge.web.bodies import Taken, taken_by
from nsedge.web.door import UNTYPED, Door
from nsedge.web.multipart import FORM

KEY = "key"
"""What the document calls an API key."""
_PARAMETER = re.compile(r"\{(\w+)(:[^{}]*)?\}")
_METHODS = frozenset({"GET", "POST", "DELETE"})


def document(doors: Iterable[Door], *, keys: bool) -> dict[str, Any]:
    """The doors at one address, where `keys` are asked for or not."""
    doors = tuple(doors)
    routes = [(door, route) for door in doors for route in _routes(door)]
    kinds = dict.fromkeys(
        taken.kind for _, route in routes if (taken := taken_by(route.handler)) is not None
    )
    schemas, components = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )
    of_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for door, route in routes:
        at = paths.setdefault(_PARAMETER.sub(r"{\1}", route.path), {})
        told = _operation(door, route, of_kind)
        method = route.method.lower()
        at[method] = _either(at[method], told) if method in at else told
    secured = {"securitySchemes": {KEY: {"type": "http", "scheme": "bearer"}}} if keys else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "nsedge", "version": VERSION},
        "tags": [{"name": door.name, "description": _doc(door)} for door in doors],
        "paths": paths,
        "components": {"schemas": components, **secured},
        **({"security": [{KEY: []}]} if keys else {}),
    }


def _routes(door: Door) -> Iterator[web.RouteDef]:
    for route in (*door.routes, *(shared.route for shared in door.shared)):
        if route.method in _METHODS:
            yield route


def _operation(
    door: Door, route: web.RouteDef, of_kind: dict[type[msgspec.Struct], dict[str, Any]]
) -> dict[str, Any]:
    taken, scope = taken_by(route.handler), scope_of(route.handler)
    told: dict[str, Any] = {
        "tags": [door.name],
        "operationId": _slug(f"{door.name}{route.path}.{route.method.lower()}"),
        "summary": _summary(route),
        "responses": {
            "200": {"description": "The answer, or its stream."},
            "default": {
                "description": "A refusal.",
                "content": {door.error_type: {}},
            },
        },
    }
    if names := _PARAMETER.findall(route.path):
        told["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name, _ in names
        ]
    if taken is not None:
        types = taken.types or [one for one in door.body_types if one not in (UNTYPED, FORM)]
        schemas = {one: _body(of_kind[taken.kind], taken if one == FORM else None) for one in types}
        content = {one: {"schema": schema} for one, schema in schemas.items()}
        told["requestBody"] = {"required": True, "content": content}
    if scope is None:
        told["security"] = []
    else:
        told["x-scope"] = scope.value
    return told


def _body(fields: dict[str, Any], form: Taken | None) -> dict[str, Any]:
    """The schema of a body: its fields, and in a form the files beside them."""
    if form is None or not form.files:
        return fields
    files = {name: {"type": "string", "format": "binary"} for name in form.files}
    return {"allOf": [fields, {"type": "object", "properties": files}]}


def _either(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A path that two doors answer, by what the request says."""
    both = one | {"tags": one["tags"] + other["tags"]}
    bodies = [each["requestBody"]["content"] for each in (one, other) if "requestBody" in each]
    if len(bodies) > 1:
        types = dict.fromkeys(name for content in bodies for name in content)
        content = {
            name: {"schema": {"anyOf": [of[name]["schema"] for of in bodies if name in of]}}
            for name in types
        }
        both["requestBody"] = {"required": True, "content": content}
    return both


def _summary(route: web.RouteDef) -> str:
    """The first sentence of what the handler says of itself, after the route."""
    text = " ".join((route.handler.__doc__ or "").partition("\n\n")[0].split())
    text = re.sub(r"^(`[^`]+`(, | and )?)+:? *", "", text)
    return text.rstrip(".") or f"{route.method} {route.path}"


def _doc(door: Door) -> str:
    return f"docs/doors/{door.name}.md"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_")
