"""The studio: ideas by category and creativity, one as a stream or many at once; their ratings."""

from __future__ import annotations

from aiohttp import web

from nsedge.web.answering import ANSWERING
from nsedge.web.door import Door
from nsedge.web.doors.studio import generating, telling
from nsedge.web.doors.studio.shapes import ErrorBody
from nsedge.web.doors.studio.stream import error_body
from nsedge.web.doors.studio.studio import STUDIO, Studio, kept


def _open(app: web.Application) -> None:
    app[STUDIO] = Studio(app[ANSWERING].settings.ratings_file)
    app.cleanup_ctx.append(kept)


DOOR = Door(
    name="studio",
    prefixes=("/api/v1",),
    routes=(*generating.ROUTES, *telling.ROUTES),
    error_body=error_body,
    error_kind=ErrorBody,
    opens=_open,
    keeps=(STUDIO,),
)
