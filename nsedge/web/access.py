"""Who calls: the API key of a request, and the scope that each route wants."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable
from typing import TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler

from nsedge.errors import ConfigInvalid
from nsedge.security.keyring import ANONYMOUS, ApiKey, KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from nsedge.web.errors import Refusal, Refused

log = logging.getLogger(__name__)
AnyRoute = TypeVar("AnyRoute", bound=Handler)
CALLER = web.RequestKey("caller", str)
API_KEY = web.RequestKey("api_key", ApiKey)
_REALM = 'Bearer realm="nsedge"'
_wanted: dict[Handler, Scope | None] = {}


def needs(scope: Scope) -> Callable[[AnyRoute], AnyRoute]:
    """Declare what a route wants of its caller. One that declares nothing wants `manage`."""

    def declare(route: AnyRoute) -> AnyRoute:
        _wanted[route] = scope
        return route

    return declare


def open_to_all(route: AnyRoute) -> AnyRoute:
    """Declare a route that asks for no key."""
    _wanted[route] = None
    return route


def declared_as(route: AnyRoute, *others: Handler) -> AnyRoute:
    """Declare `route` as `others` are, which it stands for.

    Raises:
        ValueError: where these want different things of a caller.
    """
    wanted = {scope_of(other) for other in others}
    if len(wanted) > 1:
        raise ValueError(f"routes at one path want different scopes: {wanted}")
    _wanted[route] = wanted.pop()
    return route


def scope_of(route: Handler) -> Scope | None:
    """What `route` wants; None where it is open to all."""
    return _wanted.get(route, Scope.MANAGE)


def admit(request: web.Request, keys: WatchedFile[KeyRing] | None) -> bool:
    """Let the request in, under its key's name; without keys, everybody. False where the route is
    open to all, and nobody's account is to be opened.

    A path that is no route is let in with any key, to be told so; nobody else learns what is here.

    Raises:
        Refused: no key where one is needed, or not one of ours.
        Forbidden: a key without the route's scope.
    """
    match = request.match_info
    missing = match.http_exception is not None
    scope = Scope.READ if missing else scope_of(match.handler)
    if keys is None or scope is None:
        request[CALLER] = ANONYMOUS.name
        return scope is not None
    secret = _secret_of(request)
    if not secret:
        raise _refused(request, "an API key is needed: Authorization: Bearer KEY", _REALM)
    key = keys.value().find_api(secret)
    if key is None:
        raise _refused(request, "wrong API key", f'{_REALM}, error="invalid_token"')
    request[CALLER] = key.name
    request[API_KEY] = key
    if not missing:
        key.caller.require(scope)
    return True


def refuse_exposure(host: str, *, keys: bool, tls: bool, anonymous: bool, cleartext: bool) -> None:
    """Refuse to listen where others reach us, without keys or TLS, unless told to in so many words.

    Raises:
        ConfigInvalid: naming what to set.
    """
    if is_loopback(host):
        return
    if not (keys or anonymous):
        raise ConfigInvalid(
            f"{host} is reachable from other machines, and no key is asked for: set web.keys"
            " (`nsedge keys add` makes them), or web.allow_anonymous = true",
            param="web.host",
        )
    if not (tls or cleartext):
        raise ConfigInvalid(
            f"{host} is reachable from other machines, and nothing is encrypted: set web.tls_cert"
            " and web.tls_key, or web.allow_cleartext = true",
            param="web.host",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`; brackets of IPv6 may stand around it."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _refused(request: web.Request, message: str, challenge: str) -> Refused:
    log.info("a request was refused: %s", message, extra={"from": request.remote})
    return Refused(Refusal(code="invalid_api_key", message=message, challenge=challenge))


def _secret_of(request: web.Request) -> str | None:
    """A bearer's key, or, where there is no Authorization, one that is sent as Anthropic's clients
    send it."""
    given = request.headers.getall("Authorization", [])
    if not given:
        keys = request.headers.getall("X-Api-Key", [])
        return keys[0].strip() if len(keys) == 1 else None
    scheme, _, secret = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    return secret.strip() if scheme.lower() == "bearer" else None
