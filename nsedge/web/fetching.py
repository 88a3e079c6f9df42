"""Media that bodies name by a URL: fetched where the configuration lets them be.

A name is resolved once; all its addresses have to be public, and the connection goes to one of
these very addresses, so that a name cannot lead elsewhere once it was looked at. Each redirect is
looked at anew. No proxy, cookie or credential is used.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import aiohttp
from yarl import URL

from nsedge.api import Chat, Media, MediaPart, Message, Task
from nsedge.api.media import film_type, picture_type, sound_type
from nsedge.errors import ConfigInvalid, InvalidMedia, InvalidParameter, NsedgeError
from nsedge.version import VERSION
from nsedge.web.inline_media import Remote
from nsedge.web.places import Places
from nsedge.web.public_addresses import is_public

ANY = "*"
MAX_URL_CHARS = 8192
MAX_REDIRECTS = 5
MAX_ADDRESSES = 3
"""Of one name that are tried."""
MAX_URLS = 16
"""Of one request."""
AT_ONCE = 4
"""Of all requests together; those of one caller leave one place to others."""
_PORTS = {"http": 80, "https": 443}
_MOVED = {301, 302, 303, 307, 308}
_PIECE_BYTES = 64 << 10
_HEADERS = {
    "Accept": "image/*, audio/*, video/*",
    "Accept-Encoding": "identity",
    "User-Agent": f"nsedge/{VERSION}",
}
_KINDS: dict[str, tuple[str, Callable[[bytes], str | None]]] = {
    "image": ("picture", picture_type),
    "audio": ("sound", sound_type),
    "video": ("film", film_type),
}
"""What media of a kind are called, and what tells their type."""
T = TypeVar("T", bound=Task)
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name. Raises OSError where it has none."""
Take = Callable[[int], None]
"""Has room for so many more bytes. Raises Unavailable where others have it."""
Dial = Callable[[str, int], tuple[str, int]]
"""Where to connect to, for an address and port: themselves, but in tests."""


async def addresses_of(name: str, port: int) -> Sequence[str]:
    """What the system resolves `name` to. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


def _no_matter(size: int) -> None:
    """There is room."""


def _themselves(address: str, port: int) -> tuple[str, int]:
    return address, port


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    """- hosts: HOST, HOST:PORT, *.DOMAIN, or * for all of them; without a port that of the scheme.
    Empty is none, so that nothing is fetched.
    - max_bytes: of one medium; timeout_s: for all that it takes to have it.
    """

    hosts: tuple[str, ...] = ()
    max_bytes: int = 8 << 20
    timeout_s: float = 10.0

    def check(self) -> None:
        """Raises ConfigInvalid for a host that is none."""
        for host in self.hosts:
            name, _, port = host.partition(":")
            named = name.removeprefix("*.") if name != ANY else "x"
            if not named or "*" in named or "/" in host or (":" in host and not port.isdigit()):
                raise ConfigInvalid(
                    f"media.url_hosts: {host!a} is no HOST, HOST:PORT, *.DOMAIN or *"
                )

    def allow(self, name: str, port: int, usual: int) -> bool:
        """Whether `name` may be asked at `port`; `usual` is that of the scheme."""
        return any(self._fits(host.lower(), name, port, usual) for host in self.hosts)

    def _fits(self, host: str, name: str, port: int, usual: int) -> bool:
        known, _, at = host.partition(":")
        if port != (int(at) if at else usual):
            return False
        if known.startswith("*."):
            return name.endswith(known[1:])
        return known in (ANY, name)


class Fetcher:
    """Fetches media, a few at once."""

    def __init__(
        self, rules: FetchRules, *, resolve: Resolve = addresses_of, dial: Dial = _themselves
    ) -> None:
        """Raises ConfigInvalid."""
        rules.check()
        self._rules = rules
        self._resolve = resolve
        self._dial = dial
        self._places = Places(AT_ONCE)

    async def fetch(
        self, url: str, kind: str, take: Take = _no_matter, *, caller: str = ""
    ) -> Media:
        """The picture (`kind` image), recording (audio) or film (video) at `url`, for
        `caller`.

        Raises:
            InvalidParameter: it may not be fetched.
            InvalidMedia: it cannot be had, is too large, or none of its kind.
        """
        self._check(_parsed(url))
        try:
            async with self._places.taken(caller), asyncio.timeout(self._rules.timeout_s):
                data = await self._followed(_parsed(url), take)
        except TimeoutError as error:
            raise InvalidMedia(
                f"the URL was not fetched within {self._rules.timeout_s:g} s"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise InvalidMedia(f"the URL cannot be fetched: {_reason(error)}") from error
        known, tell = _KINDS[kind]
        if (found := tell(data)) is None:
            raise InvalidMedia(f"what the URL leads to is no {known} that is read here")
        return Media(type=found, data=data)

    def _check(self, url: URL) -> None:
        """Refuse what may not be fetched, whatever its name leads to."""
        if not self._rules.hosts:
            raise InvalidParameter(
                "nothing is fetched from elsewhere: send a data URL (media.url_hosts names no host)"
            )
        if url.scheme not in _PORTS:
            raise InvalidParameter("a URL is fetched by http or https alone")
        if url.raw_user is not None or url.raw_password is not None:
            raise InvalidParameter("a URL with credentials in it is not fetched")
        name, port = _place(url)
        if not self._rules.allow(name, port, _PORTS[url.scheme]):
            raise InvalidParameter(
                f"nothing is fetched from {name}:{port}: media.url_hosts does not name it"
            )

    async def _followed(self, url: URL, take: Take) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._asked(url, take)
            if isinstance(answer, bytes):
                return answer
            if url.scheme == "https" and answer.scheme != "https":
                raise InvalidParameter("a redirect from https to http is not followed")
            self._check(answer)
            url = answer
        raise InvalidMedia(f"the URL was redirected more than {MAX_REDIRECTS} times")

    async def _asked(self, url: URL, take: Take) -> bytes | URL:
        """What is there, or where it has moved to."""
        name, port = _place(url)
        *others, last = (await self._addresses(name, port))[:MAX_ADDRESSES]
        for address in others:
            try:
                return await self._asked_at(url, address, take)
            except aiohttp.ClientConnectorError:
                continue
        return await self._asked_at(url, last, take)

    async def _asked_at(self, url: URL, address: str, take: Take) -> bytes | URL:
        name, port = _place(url)
        host, at = self._dial(address, port)
        direct = URL.build(
            scheme=url.scheme,
            host=host,
            port=at,
            path=url.raw_path,
            query_string=url.raw_query_string,
            encoded=True,
        )
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
            ) as session,
            session.get(
                direct,
                headers={**_HEADERS, "Host": _host_header(url)},
                allow_redirects=False,
                server_hostname=name if url.scheme == "https" else None,
                ssl=_tls() if url.scheme == "https" else True,
            ) as response,
        ):
            if response.status in _MOVED:
                return _moved_to(url, response.headers.get("Location"))
            if response.status != 200:
                raise InvalidMedia(f"the URL was answered by status {response.status}")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise InvalidMedia("what the URL leads to is compressed, which was not asked for")
            return await self._read(response, take)

    async def _addresses(self, name: str, port: int) -> Sequence[str]:
        """Its addresses, which are all public.

        Raises:
            InvalidParameter: they are not, or it has none: who asks learns no more of our network.
        """
        try:
            found = await self._resolve(name, port)
        except (OSError, UnicodeError):
            found = ()
        if not found or not all(map(is_public, found)):
            raise InvalidParameter(f"{name} has no public address: it is not asked")
        return found

    async def _read(self, response: aiohttp.ClientResponse, take: Take) -> bytes:
        most = self._rules.max_bytes
        if response.content_length is not None and response.content_length > most:
            raise InvalidMedia(_too_large(most))
        data = bytearray()
        async for piece in response.content.iter_chunked(_PIECE_BYTES):
            if len(data) + len(piece) > most:
                raise InvalidMedia(_too_large(most))
            take(len(piece))
            data += piece
        return bytes(data)


async def fetched(task: T, fetcher: Fetcher, take: Take, *, caller: str = "") -> T:
    """`task` with the media of its conversation that are elsewhere, fetched for `caller`.

    Raises:
        NsedgeError: what one of them failed with, by its place.
    """
    if not isinstance(task, Chat):
        return task
    wanted = [part for message in task.messages for part in _remote_in(message)]
    if not wanted:
        return task
    if len(wanted) > MAX_URLS:
        raise InvalidParameter(
            f"{len(wanted)} URLs are more than the {MAX_URLS} of one request",
            param=wanted[MAX_URLS].place,
        )
    try:
        async with asyncio.TaskGroup() as together:
            coming = [
                together.create_task(_brought(part, fetcher, take, caller)) for part in wanted
            ]
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    found = [one.result() for one in coming]
    there = dict(zip(map(id, wanted), found, strict=True))
    turns = (
        message
        if isinstance(message.content, str)
        else replace(message, content=tuple(there.get(id(part), part) for part in message.content))
        for message in task.messages
    )
    return replace(task, messages=tuple(turns))


def _remote_in(message: Message) -> Iterator[MediaPart]:
    for part in () if isinstance(message.content, str) else message.content:
        if isinstance(part, MediaPart) and isinstance(part.media, Remote):
            yield part


async def _brought(part: MediaPart, fetcher: Fetcher, take: Take, caller: str) -> MediaPart:
    wanted = part.media
    if not isinstance(wanted, Remote):
        return part
    try:
        media = await fetcher.fetch(wanted.url, wanted.kind, take, caller=caller)
        return replace(part, media=media)
    except NsedgeError as error:
        message = f"{part.place}: {error.message}"
        raise type(error)(message, param=part.place, retry_after_s=error.retry_after_s) from error


def _parsed(url: str) -> URL:
    """Raises InvalidParameter."""
    if len(url) > MAX_URL_CHARS:
        raise InvalidParameter(f"a URL has at most {MAX_URL_CHARS} characters")
    if any(character <= " " or character == "\x7f" for character in url):
        raise InvalidParameter("this is no URL: there are blanks in it")
    try:
        parsed = URL(url, encoded=url.isascii())  # a signed one is not to be written anew
        found = parsed.raw_host and parsed.port is not None
    except (ValueError, UnicodeError) as error:
        raise InvalidParameter(f"this is no URL: {_reason(error)}") from error
    if not found and parsed.scheme in _PORTS:
        raise InvalidParameter("a URL without a host is not fetched")
    return parsed


def _place(url: URL) -> tuple[str, int]:
    """The host and the port of a URL that was looked at."""
    return (url.raw_host or "").lower().rstrip("."), url.port or _PORTS[url.scheme]


def _host_header(url: URL) -> str:
    name, port = _place(url)
    host = f"[{name}]" if ":" in name else name
    return host if port == _PORTS[url.scheme] else f"{host}:{port}"


def _moved_to(url: URL, location: str | None) -> URL:
    if not location:
        raise InvalidMedia("the URL was redirected to nowhere")
    try:
        return _parsed(str(url.join(URL(location))))
    except ValueError as error:
        raise InvalidMedia("the URL was redirected to what is no URL") from error


def _too_large(most: int) -> str:
    return f"what the URL leads to has more than {most} bytes (media.url_bytes)"


def _reason(error: Exception) -> str:
    """In a line, and without the address that was dialled."""
    kind = type(error).__name__
    return kind if isinstance(error, aiohttp.ClientError | OSError) else str(error)[:128] or kind


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
