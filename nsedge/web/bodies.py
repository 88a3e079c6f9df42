"""Bodies: how they are read, held to their types, and answered in JSON."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Meta

from nsedge.api.constraint import PARAM as CONSTRAINT
from nsedge.errors import BadMessage, InvalidParameter, MessageTooLarge, NsedgeError
from nsedge.web import http_guard
from nsedge.web.answer_stream import StreamEncoder
from nsedge.web.answering import ANSWERING
from nsedge.web.door import DOORS, JSON, UNTYPED
from nsedge.web.errors import Refusal, Refused
from nsedge.web.http_guard import IGNORED_FIELDS
from nsedge.web.integers import with_integers
from nsedge.web.multipart import FORM, FormPart, form_parts
from nsedge.web.other_fields import OtherFields

Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
ModelName = Annotated[str, Meta(min_length=1, max_length=256)]


MIN_BYTES_A_TIME = 4 * 1024 * 1024
"""Of an upload, for each body_timeout_s that it may take."""
Body = TypeVar("Body", bound=msgspec.Struct)
AnyRoute = TypeVar("AnyRoute", bound=Handler)
_taken: dict[Handler, takes] = {}
_queried: dict[Handler, type[msgspec.Struct]] = {}
_given: dict[Handler, gives] = {}


@dataclass(frozen=True, slots=True)
class takes:
    """Declares what the body of a route is, for those who ask what there is.

    - kind: the type that it is read as.
    - others: how it takes fields that `kind` does not have, where it looks at them.
    - parts: the types of those fields that are read apart.
    - types: its content types.
    - files: the parts of a form that are no fields; lists: its fields that may come several times.
    """

    kind: type[msgspec.Struct]
    others: OtherFields | None = None
    parts: Mapping[str, type[msgspec.Struct]] = field(default_factory=dict, kw_only=True)
    types: tuple[str, ...] = field(default=(JSON,), kw_only=True)
    files: tuple[str, ...] = field(default=(), kw_only=True)
    lists: tuple[str, ...] = field(default=(), kw_only=True)

    def __call__(self, route: AnyRoute) -> AnyRoute:
        _taken[route] = self
        return route


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A route of the same door that an answer in JSON leads to.

    - name: what it is for. method, path: of the route.
    - parameters: of its path, and body: fields of its body, each with the place of its value in the
      answer, as a JSON pointer.
    """

    name: str
    method: str = "POST"
    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class gives:
    """Declares what a route answers with, for those who ask what there is.

    - kind: the type of its JSON: a `TypedDict` as a rule, which the function that makes it returns.
    - stream: what writes its stream, where it has one; its docstring says what of.
    - pages: the content types of answers that are neither.
    - also: the statuses beside 200 that the same answer has.
    - refuses: error codes beside those that follow from its body, its scope and the core. A route
      that gives nothing else always refuses.
    - asks_core: whether it fails where the core does.
    - upgrades: whether it becomes a WebSocket.
    - links: what its JSON leads to.
    """

    kind: Any = None
    stream: type[StreamEncoder] | None = field(default=None, kw_only=True)
    pages: tuple[str, ...] = field(default=(), kw_only=True)
    also: tuple[int, ...] = field(default=(), kw_only=True)
    refuses: tuple[str, ...] = field(default=(), kw_only=True)
    asks_core: bool = field(default=True, kw_only=True)
    upgrades: bool = field(default=False, kw_only=True)
    links: tuple[Link, ...] = field(default=(), kw_only=True)

    def __call__(self, route: AnyRoute) -> AnyRoute:
        _given[route] = self
        return route


@dataclass(frozen=True, slots=True)
class takes_query:
    """Declares what the query of a route is, which `read_query` reads as `kind`."""

    kind: type[msgspec.Struct]

    def __call__(self, route: AnyRoute) -> AnyRoute:
        _queried[route] = self.kind
        return route


def query_of(route: Handler) -> type[msgspec.Struct] | None:
    """What the query of `route` is, as it was declared."""
    return _queried.get(route)


def taken_by(route: Handler) -> takes | None:
    """What the body of `route` is, as it was declared."""
    return _taken.get(route)


def given_by(route: Handler) -> gives | None:
    """What `route` answers with, as it was declared."""
    return _given.get(route)


async def read(http: web.Request) -> bytes:
    """The body of a request, in a content type that its door reads.

    Raises:
        Refused: another content type, one that a page of a foreign origin can send unasked, or a
            body that does not arrive in body_timeout_s.
        MessageTooLarge, BadMessage: a body beyond max_body_bytes, or broken off.
    """
    limits = http.app[ANSWERING].limits
    _check_type(http, http.app[DOORS].body_types(http.path))
    return await _arrived(http, http.read, limits.max_body_bytes, limits.body_timeout_s)


async def _read_upload(http: web.Request) -> bytes:
    """A form that may bring files. Raises as `read`, by max_upload_bytes, and Unavailable where
    others are here already; one that is longer than other bodies may be has as much more time."""
    answering = http.app[ANSWERING]
    limits = answering.limits
    _check_type(http, (FORM,))
    most = max(limits.max_upload_bytes, limits.max_body_bytes)
    timeout_s = limits.body_timeout_s * max(1.0, (http.content_length or most) / MIN_BYTES_A_TIME)

    async def whole() -> bytes:
        pieces, size = [], 0
        async for piece in http.content.iter_any():
            size += len(piece)
            if size > most:
                raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=size)
            answering.uploads.take(http, len(piece))
            pieces.append(piece)
        return b"".join(pieces)

    return await _arrived(http, whole, most, timeout_s)


def _check_type(http: web.Request, types: Collection[str]) -> None:
    said = http.content_type if "Content-Type" in http.headers else UNTYPED
    if said not in types:
        raise _wrong_type(f"the content type must be {' or '.join(filter(None, types))}")
    if http.headers.get("Content-Encoding", "identity") != "identity":
        raise _wrong_type("compressed bodies are not supported")
    if said != JSON:
        http_guard.refuse_foreign_origin(http, http.app[ANSWERING].limits)


async def _arrived(
    http: web.Request, whole: Callable[[], Awaitable[bytes]], most: int, timeout_s: float
) -> bytes:
    too_large = MessageTooLarge(f"the body is beyond the limit of {most} bytes")
    if (http.content_length or 0) > most:
        raise too_large
    try:
        async with asyncio.timeout(timeout_s):
            return await whole()
    except TimeoutError as error:
        message = f"the body did not arrive within {timeout_s:g} s"
        raise Refused(Refusal(code="request_timeout", message=message)) from error
    except web.HTTPRequestEntityTooLarge as error:
        raise too_large from error
    except web.RequestPayloadError as error:
        raise BadMessage(f"the body cannot be read: {error}") from error


async def read_json(http: web.Request, kind: type[Body], others: OtherFields | None = None) -> Body:
    """The JSON body of a request; what of it was left out is told with the answer.

    Raises as `read` and `decode`, and as `others` refuse fields that `kind` does not have.
    """
    if http.content_type == FORM:
        raise _wrong_type(f"the content type must be {JSON}: no form is read here")
    raw = await read(http)
    body = decode(raw, kind)
    for param, name in getattr(body, "field_names", {}).items():
        http_guard.name_field(http, param, name)
    if name := getattr(body, "constrained_by", None):
        http_guard.name_field(http, CONSTRAINT, name)
    if others is not None:
        _leave_out(http, beyond(raw, kind), kind, others)
    return body


async def read_form(
    http: web.Request,
    kind: type[Body],
    others: OtherFields,
    *,
    media: Collection[str],
    lists: Collection[str] = (),
) -> tuple[Body, tuple[FormPart, ...]]:
    """The form of a request: its fields, each a text, as `kind`, and those named in `media`. Those
    in `lists`, those whose name ends in `[]` and those that `kind` does not have may come any
    number of times.

    Raises as `read_json`, and BadMessage where it is no form.
    """
    raw, uploaded = await _read_upload(http), []
    fields: dict[str, str | list[str]] = {}
    unknown: dict[str, list[str]] = {}
    known = kind.__struct_encode_fields__
    for part in form_parts(http.headers["Content-Type"], raw):
        name = part.name.removesuffix("[]")
        if part.name in media:
            uploaded.append(part)
        elif name not in known and name == part.name:
            unknown.setdefault(name, []).append(part.text())
        elif name in lists or name != part.name:
            several = fields.setdefault(name, [])
            if isinstance(several, str):
                raise InvalidParameter(f"{name} is given as {name}[], too", param=name)
            several.append(part.text())
        elif name in fields:
            raise InvalidParameter(f"{name} is given twice", param=name)
        else:
            fields[name] = part.text()
    with _usable_json():
        body = msgspec.convert(fields, kind, strict=False)
    beyond: dict[str, Any] = {name: fields[name] for name in fields if name not in known}
    for name, texts in unknown.items():
        beyond.setdefault(name, texts[0] if len(texts) == 1 else texts)
    _leave_out(http, beyond, kind, others)
    return body, tuple(uploaded)


def read_query(http: web.Request, kind: type[Body]) -> Body:
    """The query of a request as `kind`; of what is given twice, the first.

    Raises:
        InvalidParameter: where a field is missing or ill-typed; `param` names it.
    """
    with _usable_json():
        return msgspec.convert(dict(http.query), kind, strict=False)


def _leave_out(
    http: web.Request, found: Mapping[str, Any], kind: type[msgspec.Struct], others: OtherFields
) -> None:
    ignored = http.app[ANSWERING].limits.ignored_fields
    honoured = kind.__struct_encode_fields__
    http[IGNORED_FIELDS] = others.check(found, honoured=honoured, ignored=ignored)


def json_answer(body: object, status: int = 200) -> web.Response:
    """`body` as JSON; numbers without end are null."""
    return web.Response(status=status, body=msgspec.json.encode(body), content_type=JSON)


def text_of(raw: bytes) -> str:
    """A body as text.

    Raises:
        BadMessage: where it is not UTF-8.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadMessage(f"the body is not UTF-8: {error.reason} at {error.start}") from error


def decode(raw: bytes, kind: type[Body]) -> Body:
    """A JSON body as `kind`; `1.0` is an integer, too.

    Raises:
        BadMessage: where it is not JSON in UTF-8, or is nested without measure.
        InvalidParameter: where a field is missing or ill-typed; `param` names it.
    """
    text = text_of(raw)
    with _usable_json():
        try:
            return msgspec.json.decode(text, type=kind)
        except msgspec.ValidationError as error:
            if "got `float`" not in str(error):
                raise
        value = with_integers(msgspec.json.decode(text), kind)
        return msgspec.json.decode(msgspec.json.encode(value), type=kind)


def beyond(raw: bytes, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields of a JSON object that `kind` does not have. Raises as `decode`."""
    known = kind.__struct_encode_fields__
    with _usable_json():
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        return {name: msgspec.json.decode(fields[name]) for name in fields if name not in known}


@contextmanager
def _usable_json() -> Iterator[None]:
    try:
        yield
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from error
    except msgspec.DecodeError as error:
        raise BadMessage(f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise BadMessage("the body is not usable: its JSON is nested too deep") from error


def _misfit(complaint: str) -> NsedgeError:
    what, _, where = complaint.partition(" - at ")
    if path := re.search(r"\$\.?([^`]*)", where):
        return InvalidParameter(f"{path[1]}: {what}", param=path[1] or None)
    if missing := re.search(r"required field `(\w+)`", what):
        return InvalidParameter(f"{missing[1]} is missing", param=missing[1])
    if unknown := re.search(r"unknown field `(.*)`", what):
        return InvalidParameter(f"{unknown[1]} is not a field that is known here", param=unknown[1])
    return BadMessage(f"the body does not fit: {what}")


def _wrong_type(message: str) -> Refused:
    return Refused(Refusal(code="unsupported_media_type", message=message))
