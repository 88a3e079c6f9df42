"""Media by their URLs, of local servers under names and addresses of the test's own."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from nsedge.api import Chat, Media, MediaPart, Message, Role, TextPart
from nsedge.errors import ConfigInvalid, InvalidMedia, InvalidParameter, NsedgeError, Unavailable
from nsedge.web.fetching import AT_ONCE, MAX_URLS, Fetcher, FetchRules, fetched
from nsedge.web.inline_media import Remote
from tests.web_server import until

PNG = b"\x89PNG\r\n\x1a\nP"
WAV = b"RIFF....WAVEfmt "
PUBLIC = "93.184.216.34"


@dataclass
class World:
    """A server that every address leads to, and what names are resolved to."""

    port: int = 0
    names: dict[str, list[list[str]]] = field(default_factory=dict)
    """Of each name, its addresses: one list after the other, the last for ever."""
    asked: list[web.Request] = field(default_factory=list)
    dialled: list[tuple[str, int]] = field(default_factory=list)
    resolved: Counter[str] = field(default_factory=Counter)
    answers: dict[str, Callable[[], web.StreamResponse]] = field(default_factory=dict)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def resolve(self, name: str, port: int) -> Sequence[str]:
        self.resolved[name] += 1
        lists = self.names.get(name)
        if lists is None:
            raise OSError("no such name")
        return lists.pop(0) if len(lists) > 1 else lists[0]

    def dial(self, address: str, port: int) -> tuple[str, int]:
        self.dialled.append((address, port))
        return "127.0.0.1", self.port

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if request.path == "/slow":
            await self.gate.wait()
        if request.path == "/endless":
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(100):
                await response.write(PNG + bytes(1000))
            return response
        return self.answers[request.path]()

    def fetcher(self, **rules: Any) -> Fetcher:
        given = FetchRules(**{"hosts": ("*",), "timeout_s": 20.0} | rules)
        return Fetcher(given, resolve=self.resolve, dial=self.dial)

    async def refused(self, url: str, kind: str = "image", **rules: Any) -> NsedgeError:
        with pytest.raises(NsedgeError) as caught:
            await self.fetcher(**rules).fetch(url, kind)
        return caught.value


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    made = World(names={"pics.example": [[PUBLIC]]})
    made.answers["/p"] = lambda: web.Response(body=PNG, content_type="text/html")
    made.answers["/s"] = lambda: web.Response(body=WAV)
    app = web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        made.gate.set()
        await runner.cleanup()


def play(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @functools.wraps(scenario)
    def test() -> None:
        async def main() -> None:
            async with asyncio.timeout(60), world() as made:
                await scenario(made)

        asyncio.run(main())

    del test.__wrapped__  # type: ignore[attr-defined]  # pytest would ask for its argument
    return test


@play
async def test_what_is_there_is_known_by_its_bytes(made: World) -> None:
    fetcher = made.fetcher()
    assert await fetcher.fetch("http://Pics.Example/p?q=%2F&r#f", "image") == Media(
        type="image/png", data=PNG
    )
    assert (await fetcher.fetch("http://pics.example/s", "audio")).type == "audio/wav"
    made.answers["/%C3%BC"] = made.answers["/ü"] = made.answers["/p"]
    assert (await fetcher.fetch("http://pics.example/ü", "image")).data == PNG
    first = made.asked[0]
    assert (first.headers["Host"], first.raw_path) == ("pics.example", "/p?q=%2F&r")
    assert "Cookie" not in first.headers
    assert first.headers["Accept-Encoding"] == "identity"
    assert made.dialled == [(PUBLIC, 80)] * 3
    for path, kind in (("/p", "audio"), ("/s", "image")):
        error = await made.refused(f"http://pics.example{path}", kind)
        assert error.code == "invalid_media"


@pytest.mark.parametrize(
    ("hosts", "url", "allowed"),
    [
        ((), "http://pics.example/p", False),
        (("pics.example",), "http://pics.example/p", True),
        (("PICS.example",), "http://pics.example./p", True),
        (("pics.example",), "http://other.example/p", False),
        (("pics.example",), "http://pics.example.evil.example/p", False),
        (("pics.example",), "http://pics.example:8080/p", False),
        (("pics.example:8080",), "http://pics.example:8080/p", True),
        (("pics.example:8080",), "http://pics.example/p", False),
        (("*.example",), "http://pics.example/p", True),
        (("*.pics.example",), "http://pics.example/p", False),
        (("*.example",), "http://xample/p", False),
        (("*",), "http://pics.example/p", True),
        (("*",), "http://pics.example:22/p", False),
    ],
)
def test_hosts_are_those_that_are_named(hosts: tuple[str, ...], url: str, allowed: bool) -> None:
    @play
    async def scenario(made: World) -> None:
        if allowed:
            assert (await made.fetcher(hosts=hosts).fetch(url, "image")).data == PNG
            return
        error = await made.refused(url, hosts=hosts)
        assert isinstance(error, InvalidParameter)
        assert "media.url_hosts" in error.message
        assert not made.resolved

    scenario()


@pytest.mark.parametrize("host", ["", "*x", "a*b", "*.", "http://x", "x/y", "x:y", "*.*.x"])
def test_hosts_that_are_none_are_refused_at_the_start(host: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"media\.url_hosts"):
        Fetcher(FetchRules(hosts=(host,)))


@pytest.mark.parametrize(
    "addresses",
    [
        [],
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["fe80::1%2"],
        ["224.0.0.1"],
        [PUBLIC, "10.0.0.1"],
    ],
)
def test_a_name_that_leads_inside_is_not_asked(addresses: list[str]) -> None:
    @play
    async def scenario(made: World) -> None:
        made.names["pics.example"] = [addresses]
        error = await made.refused("http://pics.example/p")
        assert error.message == "pics.example has no public address: it is not asked"
        assert not made.dialled

    scenario()


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.01"),
        *("[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "localhost", "169.254.169.254"),
    ],
)
def test_an_address_that_is_written_out_is_looked_at_like_a_name(host: str) -> None:
    """As the system resolves it, whatever it makes of the way it is written."""

    @play
    async def scenario(made: World) -> None:
        fetcher = Fetcher(FetchRules(hosts=("*",)), dial=made.dial)
        with pytest.raises(InvalidParameter):
            await fetcher.fetch(f"http://{host}/p", "image")
        assert not made.dialled

    scenario()


@play
async def test_a_name_is_resolved_once_and_that_address_is_dialled(made: World) -> None:
    made.names["pics.example"] = [[PUBLIC], ["127.0.0.1"]]
    await made.fetcher().fetch("http://pics.example/p", "image")
    assert made.resolved == {"pics.example": 1}
    assert made.dialled == [(PUBLIC, 80)]
    error = await made.refused("http://pics.example/p")
    assert "no public address" in error.message, "it was looked up anew, and has moved inside"


@play
async def test_each_redirect_is_looked_at_anew(made: World) -> None:
    made.names |= {"b.example": [[PUBLIC]], "inside.example": [["10.0.0.1"]]}

    def to(location: str) -> None:
        made.answers["/r"] = lambda: web.Response(status=302, headers={"Location": location})

    to("http://b.example/p")
    assert (await made.fetcher().fetch("http://pics.example/r", "image")).data == PNG
    to("/p")
    assert (await made.fetcher().fetch("http://pics.example/r", "image")).data == PNG
    for location, told in (
        ("http://inside.example/p", "inside.example has no public address"),
        ("http://127.0.0.1/p", "127.0.0.1 has no public address"),
        ("file:///etc/passwd", "by http or https alone"),
        ("http://u:p@b.example/p", "credentials"),
        ("http://b.example:22/p", "nothing is fetched from b.example:22"),
        ("/r", "redirected more than 5 times"),
        ("", "redirected to nowhere"),
    ):
        to(location)
        error = await made.refused("http://pics.example/r")
        assert told in error.message
    to("http://b.example/p")
    error = await made.refused("http://pics.example/r", hosts=("pics.example",))
    assert "media.url_hosts does not name it" in error.message


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://pics.example/p", "by http or https alone"),
        ("file:///etc/passwd", "by http or https alone"),
        ("http://u@pics.example/p", "credentials"),
        ("http://u:p@pics.example/p", "credentials"),
        ("http:///p", ""),
        ("http://", ""),
        ("http://[::1", "no URL"),
        ("http://pics.example/a b", "no URL"),
        ("http://pics.example/\r\nHost: x", "no URL"),
        ("http://pics.example:99999/p", "no URL"),
        ("http://pics.example/" + "x" * 9000, "at most 8192 characters"),
        ("http://none.example/p", "none.example has no public address"),
        ("http://pics.example/none", "answered by status 404"),
        ("http://pics.example/zip", "compressed"),
        ("http://pics.example/text", "no picture that is read here"),
        ("http://pics.example/empty", "no picture that is read here"),
        ("http://pics.example/large", "more than 1024 bytes"),
        ("http://pics.example/endless", "more than 1024 bytes"),
    ],
)
def test_what_cannot_be_had_is_told_in_a_line(url: str, told: str) -> None:
    @play
    async def scenario(made: World) -> None:
        made.answers |= {
            "/none": lambda: web.Response(status=404),
            "/zip": lambda: web.Response(body=PNG, headers={"Content-Encoding": "br"}),
            "/text": lambda: web.Response(body=b"<html>", content_type="image/png"),
            "/empty": lambda: web.Response(body=b""),
            "/large": lambda: web.Response(body=PNG + bytes(2000)),
        }
        error = await made.refused(url, max_bytes=1024)
        assert told in error.message
        assert "\n" not in error.message
        assert isinstance(error, InvalidParameter | InvalidMedia)
        assert "127.0.0.1" not in error.message

    scenario()


@play
async def test_it_takes_no_longer_than_it_may(made: World) -> None:
    error = await made.refused("http://pics.example/slow", timeout_s=0.05)
    assert error.message == "the URL was not fetched within 0.05 s"


@play
async def test_a_proxy_of_the_environment_is_not_used(made: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        patch.setenv("http_proxy", "http://127.0.0.1:1")
        assert (await made.fetcher().fetch("http://pics.example/p", "image")).data == PNG


@play
async def test_other_addresses_are_tried_where_one_does_not_answer(made: World) -> None:
    made.names["pics.example"] = [["1.1.1.1", PUBLIC]]

    def dial(address: str, port: int) -> tuple[str, int]:
        made.dialled.append((address, port))
        return "127.0.0.1", 1 if address == "1.1.1.1" else made.port

    fetcher = Fetcher(FetchRules(hosts=("*",)), resolve=made.resolve, dial=dial)
    assert (await fetcher.fetch("http://pics.example/p", "image")).data == PNG
    assert made.dialled == [("1.1.1.1", 80), (PUBLIC, 80)]
    made.names["pics.example"] = [["1.1.1.1"]]
    with pytest.raises(InvalidMedia, match="cannot be fetched: ClientConnector"):
        await fetcher.fetch("http://pics.example/p", "image")


def asking(*urls: str) -> Chat:
    parts = [
        MediaPart(media=Remote(type="image/unknown", data=b"", url=url), place=f"input[{number}]")
        for number, url in enumerate(urls)
    ]
    message = Message(role=Role.USER, content=(*parts, TextPart(text="Well?")))
    return Chat(messages=(message,))


@play
async def test_a_request_gets_all_that_it_names(made: World) -> None:
    taken: list[int] = []
    wanted = asking("http://pics.example/p", "http://pics.example/p")
    found = await fetched(wanted, made.fetcher(), taken.append)
    (message,) = found.messages
    assert [part.place for part in message.content[:2] if isinstance(part, MediaPart)] == [
        "input[0]",
        "input[1]",
    ]
    assert [media.data for media in message.media] == [PNG, PNG]
    assert message.text == "Well?"
    assert sum(taken) == 2 * len(PNG)


@play
async def test_whoever_fetches_much_leaves_a_place_to_others(made: World) -> None:
    fetcher = made.fetcher()
    made.answers["/slow"] = made.answers["/p"]
    slow = asking(*["http://pics.example/slow"] * 2 * AT_ONCE)
    one = asyncio.create_task(fetched(slow, fetcher, lambda size: None, caller="one"))
    await until(lambda: len(made.asked) == AT_ONCE - 1)
    quick = await fetched(
        asking("http://pics.example/p"), fetcher, lambda size: None, caller="other"
    )
    assert [media.data for media in quick.messages[0].media] == [PNG]
    assert not one.done()
    made.gate.set()
    assert len((await one).messages[0].media) == 2 * AT_ONCE


@play
async def test_one_that_fails_is_named(made: World) -> None:
    wanted = asking("http://pics.example/p", "http://none.example/p")
    with pytest.raises(InvalidParameter) as caught:
        await fetched(wanted, made.fetcher(), lambda size: None)
    assert caught.value.param == "input[1]"
    assert caught.value.message.startswith("input[1]: none.example has no public address")
    many = asking(*["http://pics.example/p"] * (MAX_URLS + 1))
    with pytest.raises(InvalidParameter) as caught:
        await fetched(many, made.fetcher(), lambda size: None)
    assert caught.value.param == f"input[{MAX_URLS}]"


@play
async def test_what_there_is_no_room_for_is_not_kept(made: World) -> None:
    def full(size: int) -> None:
        raise Unavailable("others are here", retry_after_s=1.0)

    with pytest.raises(Unavailable) as caught:
        await fetched(asking("http://pics.example/p"), made.fetcher(), full)
    assert caught.value.retry_after_s == 1.0
