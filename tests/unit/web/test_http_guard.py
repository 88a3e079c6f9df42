"""What stands before the routes: bodies, hosts, origins and what is not HTTP, over real sockets."""

from __future__ import annotations

import contextlib
import gzip
import logging

import pytest

from nsedge.web import http_guard
from nsedge.web.limits import WebLimits
from tests.fakes import MODEL
from tests.web_server import Connection, Shim, answered, error_of, served

CHAT = "/v1/chat/completions"
HI = {"model": MODEL, "messages": [{"role": "user", "content": "one two"}]}


@pytest.mark.parametrize(
    ("raw", "headers", "status", "code"),
    [
        (b"{", {}, 400, "bad_message"),
        (b"", {}, 400, "bad_message"),
        (b'{"model": "\xff"}', {}, 400, "bad_message"),
        (b'{"x":' * 5000, {}, 400, "bad_message"),
        (b"{}", {}, 400, "invalid_parameter"),
        (b"{}", {"content_type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", {"content_type": ""}, 415, "unsupported_media_type"),
        (gzip.compress(b"{}"), {"content_encoding": "gzip"}, 415, "unsupported_media_type"),
        (b" " * 70_000, {}, 413, "message_too_large"),
    ],
)
def test_wrong_bodies(raw: bytes, headers: dict[str, str], status: int, code: str) -> None:
    limits = WebLimits(max_body_bytes=65_536)
    answer = answered("POST", CHAT, raw=raw, limits=limits, **headers)
    assert (answer.status, error_of(answer)["code"]) == (status, code)


def test_a_chunked_body_is_measured_as_it_comes() -> None:
    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        connection.say("POST", CHAT, content_length="", transfer_encoding="chunked")
        connection.writer.write(b"400\r\n" + b" " * 1024 + b"\r\n")
        answer = await connection.answer()
        assert (answer.status, error_of(answer)["code"]) == (413, "message_too_large")
        await connection.close()

    served(test, limits=WebLimits(max_body_bytes=1000))


def test_a_body_that_does_not_arrive_times_out() -> None:
    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        connection.say("POST", CHAT, raw=b"{", content_length="100")
        answer = await connection.answer()
        assert (answer.status, error_of(answer)["code"]) == (408, "request_timeout")
        assert answer.headers["connection"] == "close"
        await connection.close()

    served(test, limits=WebLimits(body_timeout_s=0.05))


@pytest.mark.parametrize(
    "request_head",
    [
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_a_400_and_a_line_in_the_log(
    request_head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nsedge.web.http")

    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        connection.writer.write(request_head)
        assert (await connection.answer()).status == 400
        assert await connection.reader.read() == b""
        await connection.close()

    served(test)
    assert not any(record.exc_info for record in caplog.records)


def test_an_idle_connection_is_closed() -> None:
    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: loc")
        with contextlib.suppress(ConnectionResetError):  # it was closed before that came
            assert await connection.reader.read() == b""
        await connection.close()

    served(test, limits=WebLimits(idle_timeout_s=0.05))


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:3009", "127.0.0.1:1", "[::1]:3009", "127.1.2.3", "box.lan"]
)
def test_hosts_of_loopback_are_served(host: str) -> None:
    limits = WebLimits(allowed_hosts=("box.lan",))
    assert answered("GET", "/live", host=host, limits=limits).status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:3009", "10.0.0.1", "localhost.x"])
def test_other_hosts_are_refused_on_loopback(host: str) -> None:
    answer = answered("GET", "/v1/models", host=host)
    assert (answer.status, error_of(answer)["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("192.168.1.4:3009", 200),
        ("[fe80::1]", 200),
        ("edge", 200),
        ("EDGE.local:3009", 200),
        ("edge.lan.example", 200),
        ("box.lan", 200),
        ("evil.example", 403),
        ("edge.evil.example", 403),
    ],
)
def test_beyond_loopback_foreign_names_are_refused(
    host: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = frozenset({"edge.lan.example", "edge", "edge.local"})
    monkeypatch.setattr(http_guard, "own_names", lambda: names)
    monkeypatch.setattr(http_guard, "_on_loopback", lambda request: False)
    limits = WebLimits(allowed_hosts=("box.lan",))
    assert answered("GET", "/live", host=host, limits=limits).status == status


def test_a_machine_is_called_by_its_name_bare_and_by_mdns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Edge.lan.example")
    http_guard.own_names.cache_clear()
    assert http_guard.own_names() == {"edge.lan.example", "edge", "edge.local"}
    http_guard.own_names.cache_clear()


def test_a_head_of_many_fields_is_refused() -> None:
    many = {f"x_{number}": "1" for number in range(200)}
    assert answered("GET", "/live", **many).status == 400


@pytest.mark.parametrize("path", [CHAT, "/nowhere"])
@pytest.mark.parametrize("wish", [b"tea", b"\xbe\xff"])
def test_an_expectation_that_nobody_knows_is_refused(path: str, wish: bytes) -> None:
    async def test(shim: Shim) -> None:
        connection = await Connection.open(shim.port)
        connection.writer.write(
            b"POST %s HTTP/1.1\r\nHost: localhost\r\nExpect: %s\r\nContent-Length: 2\r\n\r\n{}"
            % (path.encode(), wish)
        )
        answer = await connection.answer()
        assert answer.status == 400
        assert "100-continue" in answer.body.decode()
        assert await connection.reader.read() == b""
        await connection.close()

    served(test)


def test_no_page_may_call_by_default() -> None:
    answer = answered("GET", "/v1/models", origin="http://a.example")
    assert answer.status == 200
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_listed_origins_only() -> None:
    limits = WebLimits(cors_origins=("http://a.example",))
    preflight = {"access_control_request_method": "POST"}
    good = answered("OPTIONS", CHAT, origin="http://a.example", limits=limits, **preflight)
    assert good.status == 204
    assert good.headers["access-control-allow-origin"] == "http://a.example"
    assert good.headers["vary"] == "Origin"
    for origin in ("http://a.example.org", "http://b.example", "null"):
        bad = answered("OPTIONS", CHAT, origin=origin, limits=limits, **preflight)
        assert bad.status == 405
        assert "access-control-allow-origin" not in bad.headers
    seen = answered("POST", CHAT, HI | {"stream": True}, origin="http://a.example", limits=limits)
    assert seen.headers["access-control-allow-origin"] == "http://a.example"


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1", True), ("a b", False), ("x" * 101, False), ("a/0", False)]
)
def test_request_ids(given: str, kept: bool) -> None:
    answer = answered("POST", CHAT, HI, x_request_id=given)
    assert (answer.headers["x-request-id"] == given) == kept
    assert answer.headers["x-request-id"]
