"""The HTTP shim: doors side by side in front of a service."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from aiohttp import web
from aiohttp.typedefs import Handler

from nsedge.errors import Draining, NsedgeError
from nsedge.web import access, doors, http_guard, probes
from nsedge.web.answering import ANSWERING, Answering
from nsedge.web.door import DOORS, Door, Doors
from nsedge.web.errors import Refusal, Refused

log = logging.getLogger(__name__)
_HTTP_CODES = {404: "unknown_route", 405: "method_not_allowed", 413: "message_too_large"}


def create_app(
    answering: Answering,
    through: Sequence[Door] = doors.ALL,
    *,
    opened: Sequence[web.Application] = (),
) -> web.Application:
    """The doors `through` which clients come at one address, in front of what `answering` asks.
    `/live` and `/health` are there, whichever doors are.

    opened: applications at other addresses; what a door keeps in one of these it has here, too.

    Raises:
        ValueError: doors that cannot stand side by side.
    """
    app = web.Application(
        middlewares=[_count, _guard], client_max_size=answering.limits.max_body_bytes
    )
    app[ANSWERING], app[DOORS] = answering, Doors(through)
    app.on_response_prepare.append(_mark)
    routes = app[DOORS].routes
    paths = {route.path for route in routes}
    app.add_routes(routes)
    app.add_routes(route for route in probes.ROUTES if route.path not in paths)
    for door in through:
        if door.opens is None:
            continue
        there = next((one for one in opened if door in one[DOORS]), None)
        if there is None:
            door.opens(app)
            continue
        for key in door.keeps:
            app[key] = there[key]
    return app


@web.middleware
async def _count(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the request, and keep count of what becomes of it."""
    request[http_guard.REQUEST_ID] = http_guard.label(request)
    return await request.app[ANSWERING].traffic.count(request, handler)


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep strangers out, and turn every error into an answer."""
    answering = request.app[ANSWERING]
    try:
        http_guard.check_host(request, answering.limits)
        if http_guard.is_preflight(request) and http_guard.allowed_origin(
            request, answering.limits
        ):
            return http_guard.preflight_answer()
        if access.admit(request, answering.keys):
            answering.open_account(request)
        if answering.draining and request.method == "POST":
            raise Draining("the server is stopping")
        return await handler(request)
    except Refused as error:
        return _refuse(request, error.refusal)
    except NsedgeError as error:
        return _refuse(request, Refusal.of(error))
    except web.HTTPException as error:
        return _http_answer(request, error)
    except ConnectionError:
        raise
    except Exception:
        log.exception("request %s failed", request[http_guard.REQUEST_ID])
        return _refuse(request, Refusal.of(NsedgeError("internal error")))
    finally:
        answering.uploads.give_back(request)


def _http_answer(request: web.Request, error: web.HTTPException) -> web.Response:
    code = _HTTP_CODES.get(error.status, "invalid_request")
    message = f"{error.reason}: {request.method} {request.path}"
    answer = _refuse(request, Refusal(code=code, message=message))
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    return answer


def _refuse(request: web.Request, refusal: Refusal) -> web.Response:
    """The refusal, as the door of the request's path tells it."""
    named = replace(http_guard.renamed(request, refusal), request_id=request[http_guard.REQUEST_ID])
    answer = request.app[DOORS].spoken_by(request).refuse(named)
    if not request.content.is_eof():
        answer.force_close()
    return answer


async def _mark(request: web.Request, response: web.StreamResponse) -> None:
    answering = request.app[ANSWERING]
    http_guard.mark(request, response, answering.limits)
    if (header := request.app[DOORS].spoken_by(request).id_header) is not None:
        response.headers[header] = request[http_guard.REQUEST_ID]
    response.headers.update(answering.rate_headers(request))
