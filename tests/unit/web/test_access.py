"""API keys at the shim: every route that tells or does anything asks, and each scope opens its
own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from nsedge.errors import ConfigInvalid
from nsedge.security import keyring
from nsedge.security.keyring import ApiKey, KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from nsedge.web import access
from nsedge.web.answering import Answering
from nsedge.web.app import create_app
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL, FakeService
from tests.web_server import Connection, Shim, answered, ask, error_of, served

CHAT = "/v1/chat/completions"
HI = {"model": MODEL, "messages": [{"role": "user", "content": "one two"}]}
ALL = (Scope.INFER, Scope.MANAGE, Scope.READ)
LIVE = ("GET", "/live")
KEYLESS = ("/live", "/dashboard")


def api_key(secret: str, *scopes: Scope) -> ApiKey:
    return ApiKey(name=f"key-{secret}", sha256=keyring.digest_of(secret), scopes=scopes)


@pytest.fixture
def keys(tmp_path: Path) -> WatchedFile[KeyRing]:
    path = tmp_path / "keys.json"
    entries = (api_key("all", *ALL), *(api_key(scope.value, scope) for scope in ALL))
    keyring.write(path, KeyRing(api=entries))
    return WatchedFile(path, keyring.read, look_s=0.0)


def routes() -> list[tuple[str, str]]:
    resources = create_app(Answering(FakeService())).router.resources()
    found = [(route.method, each.canonical) for each in resources for route in each]
    return [(method, path.replace("{name}", MODEL)) for method, path in found]


@pytest.mark.parametrize(("method", "path"), [*routes(), ("GET", "/none"), ("PUT", "/live")])
def test_nothing_is_told_without_a_key(method: str, path: str, keys: WatchedFile[KeyRing]) -> None:
    heads: list[tuple[int, dict[str, str]]] = []

    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        connection.say(method, path)
        heads.append(await connection.head())
        await connection.close()

    served(test, keys=keys)
    ((status, headers),) = heads
    if path in KEYLESS and method != "PUT":
        assert status == 200
        return
    assert status == 401
    assert headers["www-authenticate"].startswith("Bearer")
    assert headers["x-should-retry"] == "false"


def test_every_route_says_what_it_wants() -> None:
    router = create_app(Answering(FakeService())).router
    wanted = {
        resource.canonical: access.scope_of(route.handler)
        for resource in router.resources()
        for route in resource
    }
    assert [path for path, scope in wanted.items() if scope is None] == [*KEYLESS]
    assert wanted[CHAT] is wanted["/api/generate"] is Scope.INFER
    assert wanted["/v1/models"] is wanted["/health"] is wanted["/"] is Scope.READ


def test_a_route_that_declares_nothing_wants_most() -> None:
    async def route(request: object) -> None: ...

    assert access.scope_of(route) is Scope.MANAGE  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("secret", "infer", "read"),
    [("all", 200, 200), ("infer", 200, 403), ("read", 403, 200), ("manage", 403, 403)],
)
def test_a_scope_opens_its_routes_only(
    secret: str, infer: int, read: int, keys: WatchedFile[KeyRing]
) -> None:
    bearer = {"authorization": f"Bearer {secret}"}
    assert answered("POST", CHAT, HI, keys=keys, **bearer).status == infer
    assert answered("GET", "/v1/models", keys=keys, **bearer).status == read


def test_a_missing_scope_is_told(keys: WatchedFile[KeyRing]) -> None:
    answer = answered("POST", CHAT, HI, keys=keys, authorization="Bearer read")
    error = error_of(answer)
    assert error["code"] == "forbidden"
    assert "'infer'; 'key-read' has read" in error["message"]


NONE = ("an API key is needed: Authorization: Bearer KEY", 'Bearer realm="nsedge"')
WRONG = ("wrong API key", 'Bearer realm="nsedge", error="invalid_token"')


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("Bearer none", WRONG),
        ("Bearer all all", WRONG),
        ("bearer Bearer all", WRONG),
        ("Bearer ", NONE),
        ("Bearer", NONE),
        ("Basic all", NONE),
        ("all", NONE),
        ("", NONE),
    ],
)
def test_no_key_and_a_wrong_one_are_told_apart(
    header: str,
    told: tuple[str, str],
    keys: WatchedFile[KeyRing],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "nsedge.web.access")
    answer = answered("GET", "/v1/models", keys=keys, authorization=header)
    error = error_of(answer)
    assert (answer.status, error["code"]) == (401, "invalid_api_key")
    assert (error["message"], answer.headers["www-authenticate"]) == told
    assert "key-all" not in answer.body.decode()
    (record,) = caplog.records
    assert vars(record)["from"] == "127.0.0.1"
    assert "none" not in record.getMessage()


def test_the_scheme_is_read_in_any_case(keys: WatchedFile[KeyRing]) -> None:
    assert answered("GET", "/v1/models", keys=keys, authorization="bearer all").status == 200


def test_two_keys_at_once_are_none(keys: WatchedFile[KeyRing]) -> None:
    two = {"authorization": "Bearer all\r\nAuthorization: Bearer all"}
    assert answered("GET", "/v1/models", keys=keys, **two).status == 401


def test_a_known_key_is_told_of_a_path_that_is_none(keys: WatchedFile[KeyRing]) -> None:
    assert answered("GET", "/none", keys=keys, authorization="Bearer infer").status == 404
    assert answered("PUT", CHAT, keys=keys, authorization="Bearer read").status == 405


def test_a_key_taken_away_is_refused_at_once(keys: WatchedFile[KeyRing]) -> None:
    async def test(shim: Shim) -> None:
        bearer = {"authorization": "Bearer all"}
        assert (await ask(shim.port, "GET", "/v1/models", **bearer)).status == 200
        keyring.write(keys.path, KeyRing())
        assert (await ask(shim.port, "GET", "/v1/models", **bearer)).status == 401

    served(test, keys=keys)


def test_a_listed_page_may_ask_before_it_sends_its_key(keys: WatchedFile[KeyRing]) -> None:
    limits = WebLimits(cors_origins=("http://a.example",))
    asks = {"access_control_request_method": "POST"}
    listed = {"keys": keys, "limits": limits, "origin": "http://a.example"}
    assert answered("OPTIONS", CHAT, **listed, **asks).status == 204
    refused = answered("POST", CHAT, HI, **listed)
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] == "http://a.example"


OPEN = {"keys": False, "tls": False, "anonymous": False, "cleartext": False}


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "jetson.local", "10.0.0.1"])
def test_what_others_reach_asks_for_keys_and_tls_or_says_so(host: str) -> None:
    def refuse(**said: bool) -> None:
        access.refuse_exposure(host, **{**OPEN, **said})

    with pytest.raises(ConfigInvalid, match="no key is asked for"):
        refuse(tls=True)
    with pytest.raises(ConfigInvalid, match="nothing is encrypted"):
        refuse(keys=True)
    refuse(keys=True, tls=True)
    refuse(anonymous=True, cleartext=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_asks_for_nothing(host: str) -> None:
    access.refuse_exposure(host, **OPEN)
