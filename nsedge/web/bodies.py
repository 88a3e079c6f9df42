"""Bodies: how they are read, held to their types, and answered in JSON."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Meta

from nsedge.api.constraint import PARAM as CONSTRAINT
from nsedge.errors import BadMessage, InvalidParameter, MessageTooLarge, NsedgeError
from nsedge.web import http_guard
from nsedge.web.answering import ANSWERING
from nsedge.web.door import DOORS, JSON, UNTYPED
from nsedge.web.errors import Refusal, Refused
from nsedge.web.http_guard import IGNORED_FIELDS
from nsedge.web.multipart import FORM, FormPart, form_parts
from nsedge.web.other_fields import OtherFields

Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
ModelName = Annotated[str, Meta(min_length=1, max_length=256)]


MIN_BYTES_A_TIME = 4 * 1024 * 1024
"""Of an upload, for each body_timeout_s that it may take."""
Body = TypeVar("Body", bound=msgspec.Struct)
AnyRoute = TypeVar("AnyRoute", bound=Handler)
_taken: dict[Handler, Taken] = {}


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What the body of a route is. types: its content types; empty is those of its door, but for
    forms. files: parts of a form that are no fields."""

    kind: type[msgspec.Struct]
    types: tuple[str, ...]
    files: tuple[str, ...]


def takes(
    kind: type[msgspec.Struct], *types: str, files: tuple[str, ...] = ()
) -> Callable[[AnyRoute], AnyRoute]:
    """Declare what the body of a route is (`Taken`), for those who ask what there is."""

    def declare(route: AnyRoute) -> AnyRoute:
        _taken[route] = Taken(kind=kind, types=types, files=files)
        return route

    return declare


def taken_by(route: Handler) -> Taken | None:
    """What the body of `route` is, as it was declared."""
    return _taken.get(route)


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
    """A form that may bring files. Raises as `read`, by max_upload_bytes; one that is longer than
    other bodies may be has as much more time."""
    limits = http.app[ANSWERING].limits
    _check_type(http, (FORM,))
    most = max(limits.max_upload_bytes, limits.max_body_bytes)
    timeout_s = limits.body_timeout_s * max(1.0, (http.content_length or most) / MIN_BYTES_A_TIME)

    async def whole() -> bytes:
        pieces, size = [], 0
        async for piece in http.content.iter_any():
            size += len(piece)
            if size > most:
                raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=size)
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
    for param, field in getattr(body, "field_names", {}).items():
        http_guard.name_field(http, param, field)
    if field := getattr(body, "constrained_by", None):
        http_guard.name_field(http, CONSTRAINT, field)
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
    in `lists`, and those whose name ends in `[]`, may come any number of times.

    Raises as `read_json`, and BadMessage where it is no form.
    """
    raw, uploaded = await _read_upload(http), []
    fields: dict[str, str | list[str]] = {}
    for part in form_parts(http.headers["Content-Type"], raw):
        name = part.name.removesuffix("[]")
        if part.name in media:
            uploaded.append(part)
        elif name in lists or name != part.name:
            several = fields.setdefault(name, [])
            if isinstance(several, str):
                raise InvalidParameter(f"{name} is given as {name}[], too", param=name)
            several.append(part.text())
        elif name in fields:
            raise InvalidParameter(f"{name} is given twice", param=name)
        else:
            fields[name] = part.text()
    known = kind.__struct_encode_fields__
    with _usable_json():
        body = msgspec.convert(fields, kind, strict=False)
    _leave_out(http, {name: fields[name] for name in fields if name not in known}, kind, others)
    return body, tuple(uploaded)


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
    """A JSON body as `kind`.

    Raises:
        BadMessage: where it is not JSON in UTF-8, or is nested without measure.
        InvalidParameter: where a field is missing or ill-typed; `param` names it.
    """
    with _usable_json():
        return msgspec.json.decode(text_of(raw), type=kind)


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
