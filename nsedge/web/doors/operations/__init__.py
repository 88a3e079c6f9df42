"""The operations door: for those who run the daemon, and for every path that no other door has."""

from __future__ import annotations

from nsedge.web.door import Door
from nsedge.web.doors.operations import described, health, models, monitoring
from nsedge.web.errors import PlainErrorBody, plain_error

DOOR = Door(
    name="operations",
    prefixes=("/",),
    routes=(*health.ROUTES, *models.ROUTES, *monitoring.ROUTES, *described.ROUTES),
    error_body=plain_error,
    error_kind=PlainErrorBody,
)
