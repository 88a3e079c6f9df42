"""Where an answer leads to; pure."""

from __future__ import annotations

import re
from typing import Any

from nsedge.web.bodies import Link
from nsedge.web.door import Door

PARAMETER = re.compile(r"\{(\w+)(:[^{}]*)?\}")
_ANSWER = "$response.body#"


def bare(path: str) -> str:
    """The path of a route, its parameters without their patterns."""
    return PARAMETER.sub(r"{\1}", path)


def operation_id(door: Door, method: str, path: str) -> str:
    """What the document calls a route."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", f"{door.name}{bare(path)}.{method.lower()}").strip("_")


def link_of(door: Door, link: Link) -> dict[str, Any]:
    """A link of an answer of `door`, as OpenAPI tells it."""
    told: dict[str, Any] = {"operationId": operation_id(door, link.method, link.path)}
    if link.parameters:
        told["parameters"] = {
            f"path.{name}": f"{_ANSWER}{place}" for name, place in link.parameters.items()
        }
    if link.body:
        told["requestBody"] = {name: f"{_ANSWER}{place}" for name, place in link.body.items()}
    return told
