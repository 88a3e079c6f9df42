"""What every module of routes needs: the desk of their application, and an answer in JSON."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from nsedge.web.answering import Answering

ANSWERING = web.AppKey("desk", Answering)


def json_answer(body: dict[str, Any], status: int = 200) -> web.Response:
    """`body` as JSON; numbers without end are null."""
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/json"
    )
