"""Doors side by side, and one of this test's own: POST a text, read its answer as lines of text."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from nsedge.api import Finished, Request, Sampling
from nsedge.errors import EngineFailure, QueueFull
from nsedge.security import keyring
from nsedge.security.keyring import ApiKey, KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from nsedge.web import doors
from nsedge.web.access import needs
from nsedge.web.answer_stream import AnswerStream
from nsedge.web.answering import ANSWERING
from nsedge.web.bodies import read, text_of
from nsedge.web.door import Door, Doors, Shared
from nsedge.web.errors import Refusal, plain_error
from nsedge.web.framing import Framing
from nsedge.web.limits import WebLimits
from nsedge.web.request_fields import spoken
from tests.fakes import FakeService
from tests.web_server import Connection, PuppetService, Shim, answered, served

TEXT = {"content_type": "text/plain"}


def line_of(refusal: Refusal) -> bytes:
    return f"{refusal.code}: {refusal.message}\n".encode()


class LineStream(AnswerStream):
    framing = Framing(content_type="text/plain; charset=utf-8")

    def error(self, refusal: Refusal) -> bytes:
        return b"\n" + line_of(refusal)

    def _piece(self, index: int, text: str) -> bytes:
        return text.encode()

    def _closing(self, index: int, event: Finished) -> bytes:
        return b"\n"


@needs(Scope.INFER)
async def answer_in_lines(http: web.Request) -> web.StreamResponse:
    answering = http.app[ANSWERING]
    with answering.label(http) as label:
        text, model = text_of(await read(http)), await answering.model(None)
        wanted = Request(request_id=label, model=model.name, task=spoken(text, model, Sampling()))
        return await answering.stream(http, [wanted], LineStream(1))


LINES = Door(
    name="a-text",
    prefixes=("/a-text",),
    routes=(web.post("/a-text", answer_in_lines),),
    body_types=("text/plain",),
    error_body=line_of,
    error_type="text/plain",
)
WITH_LINES = (*doors.ALL, LINES)


def test_a_text_is_answered_in_lines() -> None:
    answer = answered("POST", "/a-text", raw=b"one two\nthree", through=WITH_LINES, **TEXT)
    assert (answer.status, answer.body) == (200, b"one two\nthree\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "raw", "headers", "status", "line"),
    [
        ("GET", "/a-text", b"", {}, 405, "method_not_allowed: Method Not Allowed: GET /a-text"),
        ("POST", "/a-text/x", b"", {}, 404, "unknown_route: Not Found: POST /a-text/x"),
        ("POST", "/a-text", b"x" * 99, TEXT, 413, "message_too_large: the body is beyond"),
        ("POST", "/a-text", b"x", {}, 415, "unsupported_media_type: the content type must be text"),
        ("POST", "/a-text", b"\xff", TEXT, 400, "bad_message: the body is not UTF-8"),
        ("POST", "/a-text", b"x", TEXT | {"host": "evil.example"}, 403, "host_not_allowed: "),
        ("POST", "/a-text", b"x", TEXT | {"expect": "magic"}, 400, "invalid_request: only Expect"),
    ],
)
def test_what_goes_wrong_is_told_in_the_doors_own_shape(
    method: str, path: str, raw: bytes, headers: dict[str, str], status: int, line: str
) -> None:
    limits = WebLimits(max_body_bytes=64)
    answer = answered(method, path, raw=raw, limits=limits, through=WITH_LINES, **headers)
    assert answer.status == status
    assert answer.body.decode().startswith(line)
    assert answer.body.endswith(b"\n")
    assert answer.headers["content-type"].startswith("text/plain")


def test_keys_and_rates_hold_at_every_door(tmp_path: Path) -> None:
    key = ApiKey(
        name="k", sha256=keyring.digest_of("k"), scopes=(Scope.INFER,), requests_per_minute=1
    )
    keyring.write(tmp_path / "keys.json", KeyRing(api=(key,)))
    keys = WatchedFile(tmp_path / "keys.json", keyring.read)
    seen: list[tuple[int, bytes]] = []

    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        for bearer in ("", "Bearer k", "Bearer k"):
            connection.say("POST", "/a-text", raw=b"x", authorization=bearer, **TEXT)
            answer = await connection.answer()
            seen.append((answer.status, answer.body.partition(b":")[0]))
            if answer.headers.get("connection") == "close":
                connection = await Connection.open(shim.port)
        await connection.close()

    served(test, keys=keys, through=WITH_LINES)
    assert seen == [(401, b"invalid_api_key"), (200, b"x\n"), (429, b"rate_limited")]


@pytest.mark.parametrize(
    ("origin", "status"),
    [("", 200), ("http://127.0.0.1", 200), ("http://a.example", 200), ("http://b.example", 403)],
)
def test_a_page_cannot_send_unasked_what_is_not_json(origin: str, status: int) -> None:
    limits = WebLimits(cors_origins=("http://a.example",))
    said = TEXT | {"origin": origin}
    answer = answered("POST", "/a-text", raw=b"x", limits=limits, through=WITH_LINES, **said)
    assert answer.status == status
    assert answer.body.startswith(b"origin_not_allowed: " if status == 403 else b"x\n")


async def silence(shim: Shim, service: PuppetService) -> None:
    """Two keep-alives of a stream that can have them: so long has everything else been silent."""
    connection = await Connection.open(shim.port)
    connection.say("POST", "/api/generate/stream", {"text": "x"})
    ticket = await service.ticket(len(service.tickets))
    await connection.head()
    for _ in range(2):
        assert await connection.chunk() == b": keep-alive\n\n"
    ticket.finish()
    await connection.close()


@pytest.mark.parametrize("refused", [True, False])
def test_without_comments_the_first_event_decides_however_late(refused: bool) -> None:
    service = PuppetService()

    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        connection.say("POST", "/a-text", raw=b"x", **TEXT)
        ticket = await service.ticket(len(service.tickets))
        await silence(shim, service)
        if refused:
            ticket.refuse(QueueFull("full"))
            assert (await connection.answer()).status == 429
        else:
            ticket.start()
            assert (await connection.head())[0] == 200
            ticket.say("a")
            assert await connection.chunk() == b"a"
            ticket.refuse(EngineFailure("broke"))
            assert await connection.chunk() == b"\nengine_failure: broke\n"
        await connection.close()

    served(test, service, limits=WebLimits(keepalive_s=0.01), through=WITH_LINES)


def door(name: str, *prefixes: str, routes: tuple[str, ...] = ()) -> Door:
    there = tuple(web.get(path, answer_in_lines) for path in routes)
    return Door(name=name, prefixes=prefixes, routes=there, error_body=plain_error)


def test_a_path_belongs_to_the_door_with_the_longest_prefix() -> None:
    outer, inner, rest = door("outer", "/a", "/z"), door("inner", "/a/b"), door("rest", "/")
    found = Doors((outer, rest, inner))
    belonging = {
        outer: ["/a", "/a/", "/a/bc", "/z/x"],
        inner: ["/a/b", "/a/b/c/d"],
        rest: ["/", "/ab", "/b/a", "*", ""],
    }
    for one, paths in belonging.items():
        assert [found.of(path) for path in paths] == [one] * len(paths)
    assert Doors((outer, inner)).of("/none") is outer


@pytest.mark.parametrize(
    ("together", "complaint"),
    [
        ([], "no door"),
        ([door("a", "/x"), door("b", "/y", "/x")], "the doors a and b both want /x"),
        (
            [door("a", "/x"), door("b", "/x/y", routes=("/x/z",))],
            "/x/z of the door b is a's path",
        ),
    ],
)
def test_doors_that_cannot_stand_side_by_side(together: list[Door], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Doors(together)


@needs(Scope.INFER)
async def shout(http: web.Request) -> web.StreamResponse:
    if http.query_string == "fail":
        raise EngineFailure("broke")
    return web.Response(text=text_of(await read(http)).upper())


async def ends_loudly(http: web.Request) -> bool:
    return (await read(http)).endswith(b"!")


LOUD = Door(
    name="loud",
    prefixes=("/loud",),
    routes=(),
    shared=(Shared(route=web.post("/a-text", shout), claims=ends_loudly),),
    body_types=("text/loud", "text/plain"),
    error_body=lambda refusal: f"LOUD {refusal.code}".encode(),
    error_type="text/loud",
)


@pytest.mark.parametrize(
    ("through", "raw", "kind", "status", "begins"),
    [
        ((LINES, LOUD), b"x", "text/plain", 200, b"x\n"),
        ((LINES, LOUD), b"x!", "text/plain", 200, b"X!"),
        ((LOUD, LINES), b"x!", "text/loud", 200, b"X!"),
        ((LINES, LOUD), b"x!", "text/html", 415, b"unsupported_media_type: "),
        ((LINES,), b"x!", "text/loud", 415, b"unsupported_media_type: "),
        ((LINES,), b"x!", "text/plain", 200, b"x!\n"),
        ((LOUD,), b"x", "text/plain", 200, b"X"),
        ((LOUD,), b"x", "text/html", 415, b"LOUD unsupported_media_type"),
    ],
)
def test_a_shared_path_is_answered_by_the_door_that_claims_the_request(
    through: tuple[Door, ...], raw: bytes, kind: str, status: int, begins: bytes
) -> None:
    answer = answered("POST", "/a-text", raw=raw, through=through, content_type=kind)
    assert answer.status == status
    assert answer.body.startswith(begins)


def test_a_claimed_request_that_fails_is_told_by_the_door_that_claimed_it() -> None:
    answer = answered("POST", "/a-text?fail", raw=b"x!", through=(LINES, LOUD), **TEXT)
    assert (answer.status, answer.body) == (500, b"LOUD engine_failure")
    assert answer.headers["content-type"] == "text/loud"


@pytest.mark.parametrize("scope", [Scope.READ, Scope.MANAGE])
def test_doors_that_share_a_path_want_the_same_of_a_caller(scope: Scope) -> None:
    async def other(http: web.Request) -> web.StreamResponse:
        return await shout(http)

    shared = Shared(route=web.post("/a-text", needs(scope)(other)), claims=ends_loudly)
    odd = Door(name="odd", prefixes=(), routes=(), shared=(shared,), error_body=plain_error)
    with pytest.raises(ValueError, match="different scopes"):
        Doors((LINES, odd))
    assert Doors((odd,)).of("/a-text") is odd


@pytest.mark.parametrize("one", doors.ALL, ids=lambda one: one.name)
def test_each_door_can_stand_alone(one: Door) -> None:
    path = one.routes[0].path.replace("{name}", "none")
    answer = answered("DELETE", path, service=FakeService(), through=(one,))
    assert answer.status == 405
    assert answer.headers["content-type"].startswith(one.error_type)
    assert answer.body
