"""The HTTP shim's routes, and how it listens and stops."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from nsedge.api import ChatPrompt, HealthStatus, Message, Request, Role, Service, TextPrompt
from nsedge.errors import Draining, EmptyPrompt, NsedgeError, UnknownModel
from nsedge.security.keyring import KeyRing, Scope
from nsedge.security.watched_file import WatchedFile
from nsedge.telemetry.tracing import Tracing
from nsedge.version import VERSION
from nsedge.web import access, http_guard, models, monitoring, openai, schema
from nsedge.web.access import needs, open_to_all
from nsedge.web.answering import Answering
from nsedge.web.answers import ANSWERING, json_answer
from nsedge.web.connections import Connections, listen
from nsedge.web.errors import Refusal, Refused
from nsedge.web.limits import WebLimits
from nsedge.web.sse import (
    ChatStream,
    CompletionStream,
    GenerateStream,
    OpenAiStream,
    generate_end,
)

log = logging.getLogger(__name__)
CLOSING_S = 2.0
"""What handlers get to write their last bytes, once told to end."""
LINGER_S = 1.0
"""How long the rest of a refused body is read, so that the client sees the answer."""
_HTTP_CODES = {404: "unknown_route", 405: "method_not_allowed", 413: "message_too_large"}
AnyOpenAiBody = TypeVar("AnyOpenAiBody", bound=schema.OpenAiBody)


def create_app(
    service: Service,
    limits: WebLimits | None = None,
    *,
    keys: WatchedFile[KeyRing] | None = None,
    tracing: Tracing | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> web.Application:
    """The shim as an application in front of `service`, which the caller keeps and closes.

    keys: who may call; None asks nobody for a key. tracing: takes a span of each request that asks
    for something to be done. clock: monotonic, in seconds.

    Raises:
        ConfigInvalid: where a limit is impossible.
    """
    limits = limits or WebLimits()
    limits.check()
    app = web.Application(middlewares=[_count, _guard], client_max_size=limits.max_body_bytes)
    app[ANSWERING] = Answering(service, limits, keys=keys, tracing=tracing, clock=clock)
    app.on_response_prepare.append(_mark)
    app.cleanup_ctx.append(_measure)
    app.add_routes(
        [
            web.get("/", index),
            web.get("/live", live),
            web.get("/health", health),
            web.get("/v1/models", list_models),
            web.get("/v1/models/{name}", show_model),
            *models.ROUTES,
            *monitoring.ROUTES,
            web.post("/v1/chat/completions", chat_completions),
            web.post("/v1/completions", completions),
            web.post("/api/generate", generate),
            web.post("/api/generate/stream", generate_stream),
        ]
    )
    return app


async def serve(
    app: web.Application,
    host: str,
    port: int,
    *,
    stop: asyncio.Event,
    inherited: Sequence[int] = (),
    tls: ssl.SSLContext | None = None,
    on_listening: Callable[[str, int], None] | None = None,
) -> None:
    """Serve until `stop` is set, then drain: no new connections, and running answers get drain_s.

    `inherited` are descriptors of sockets that listen already, and are taken instead of host and
    port. `on_listening` gets the address really bound, so port 0 takes any free one.

    Raises:
        ConfigInvalid: where the address cannot be bound, or others reach it and may not.
    """
    answering = app[ANSWERING]
    passed = [socket.socket(fileno=descriptor) for descriptor in inherited]
    for where in [str(one.getsockname()[0]) for one in passed] or [host]:
        answering.refuse_exposure(where, tls=tls is not None)
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        logger=_quiet_logger(),
        keepalive_timeout=answering.limits.idle_timeout_s,
        lingering_time=LINGER_S,
        max_line_size=answering.limits.max_header_bytes,
        max_field_size=answering.limits.max_header_bytes,
        auto_decompress=False,
        shutdown_timeout=CLOSING_S,
    )
    await runner.setup()
    try:
        connections = Connections(
            runner, answering.limits.max_connections, traffic=answering.traffic
        )
        servers = await listen(connections, host, port, passed, tls)
        if on_listening is not None:
            on_listening(*servers[0].sockets[0].getsockname()[:2])
        await stop.wait()
        for server in servers:
            server.close()
        await answering.drain()
    finally:
        await runner.cleanup()


@needs(Scope.READ)
async def index(request: web.Request) -> web.Response:
    """`GET /`: what is here."""
    resources = request.app.router.resources()
    routes = [f"{route.method} {each.canonical}" for each in resources for route in each]
    shown = [route for route in routes if not route.startswith("HEAD")]
    return json_answer({"name": "nsedge", "version": VERSION, "routes": shown})


@open_to_all
async def live(request: web.Request) -> web.Response:
    """`GET /live`: the shim itself runs."""
    return json_answer({"status": "live", "version": VERSION})


@needs(Scope.READ)
async def health(request: web.Request) -> web.Response:
    """`GET /health`: 200 when requests are taken, else 503 and why not."""
    answering = request.app[ANSWERING]
    if answering.draining:
        return json_answer({"status": "draining", "reason": "the web shim is stopping"}, 503)
    try:
        found = await answering.ask(answering.service.health())
    except NsedgeError as error:
        return json_answer(
            {"status": "unreachable", "reason": error.message, "code": error.code}, 503
        )
    body = {
        "status": found.status.value,
        "reason": found.reason,
        "version": found.version,
        "uptime_s": found.uptime_s,
    }
    return json_answer(body, 200 if found.status is HealthStatus.READY else 503)


@needs(Scope.READ)
async def list_models(request: web.Request) -> web.Response:
    """`GET /v1/models`."""
    answering = request.app[ANSWERING]
    served = await answering.ask(answering.service.models())
    return json_answer({"object": "list", "data": [openai.model_object(one) for one in served]})


@needs(Scope.READ)
async def show_model(request: web.Request) -> web.Response:
    """`GET /v1/models/{name}`."""
    name = request.match_info["name"]
    model = await request.app[ANSWERING].model(name)
    if model is None:
        raise UnknownModel(f"no model {name!r} is served here", param="model")
    return json_answer(openai.model_object(model))


@needs(Scope.INFER)
async def chat_completions(request: web.Request) -> web.StreamResponse:
    """`POST /v1/chat/completions`."""
    return await _complete(request, _CHAT)


@needs(Scope.INFER)
async def completions(request: web.Request) -> web.StreamResponse:
    """`POST /v1/completions`."""
    return await _complete(request, _COMPLETION)


@needs(Scope.INFER)
async def generate(request: web.Request) -> web.StreamResponse:
    """`POST /api/generate`: the answer in one piece."""
    answering = request.app[ANSWERING]
    with answering.label(request[http_guard.REQUEST_ID]) as label:
        wanted = await _generate_request(request, label)
        (choice,) = await answering.whole(request, [wanted])
    return json_answer(
        {"text": choice.text, "model": wanted.model, **generate_end(choice.finished)}
    )


@needs(Scope.INFER)
async def generate_stream(request: web.Request) -> web.StreamResponse:
    """`POST /api/generate/stream`: the answer as a stream, whatever `stream` says."""
    answering = request.app[ANSWERING]
    with answering.label(request[http_guard.REQUEST_ID]) as label:
        wanted = await _generate_request(request, label)
        return await answering.stream(request, [wanted], GenerateStream())


@dataclass(frozen=True, kw_only=True)
class _Shape(Generic[AnyOpenAiBody]):
    """What tells one OpenAI route from the other."""

    id_prefix: str
    body: type[AnyOpenAiBody]
    requests: Callable[[AnyOpenAiBody, str, WebLimits], tuple[Request, ...]]
    stream: type[OpenAiStream]
    whole: Callable[[openai.Head, Sequence[openai.Choice], int], dict[str, Any]]


_CHAT = _Shape(
    id_prefix="chatcmpl",
    body=schema.ChatBody,
    requests=openai.chat_requests,
    stream=ChatStream,
    whole=openai.chat_answer,
)
_COMPLETION = _Shape(
    id_prefix="cmpl",
    body=schema.CompletionBody,
    requests=openai.completion_requests,
    stream=CompletionStream,
    whole=openai.completion_answer,
)


async def _complete(request: web.Request, shape: _Shape[AnyOpenAiBody]) -> web.StreamResponse:
    answering = request.app[ANSWERING]
    body = schema.decode(await http_guard.read_json(request, answering.limits), shape.body)
    with answering.label(request[http_guard.REQUEST_ID]) as label:
        requests = shape.requests(body, label, answering.limits)
        per_prompt = 1 if body.n is None else body.n
        head = openai.Head(
            id=f"{shape.id_prefix}-{secrets.token_hex(16)}",
            created=int(time.time()),
            model=body.model,
        )
        if not body.stream:
            choices = await answering.whole(request, requests)
            return json_answer(shape.whole(head, choices, per_prompt))
        encoder = shape.stream(
            head, choices=len(requests), per_prompt=per_prompt, usage=_wants_usage(body)
        )
        return await answering.stream(request, requests, encoder)


async def _generate_request(request: web.Request, label: str) -> Request:
    """With a model that has a chat template, the text is what the user says, unless `raw`."""
    answering = request.app[ANSWERING]
    body = schema.decode(await http_guard.read_json(request, answering.limits), schema.GenerateBody)
    if not body.text:
        raise EmptyPrompt("text is empty", param="text")
    openai.check_length(len(body.text), answering.limits, "text")
    sampling = openai.sampling(body)
    model = await answering.model(body.model)
    if model is None:
        raise UnknownModel(f"no model {body.model!r} is served here", param="model")
    turn = Message(role=Role.USER, content=body.text)
    chat = model.has_chat_template and not body.raw
    prompt = ChatPrompt(messages=(turn,)) if chat else TextPrompt(text=body.text)
    wanted = Request(
        request_id=label,
        model=model.name,
        prompt=prompt,
        sampling=sampling,
        **openai.scheduling(body),
    )
    wanted.check()
    return wanted


@web.middleware
async def _count(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the request, and keep count of what becomes of it."""
    request[http_guard.REQUEST_ID] = http_guard.label(request)
    return await request.app[ANSWERING].traffic.count(request, handler)


async def _measure(app: web.Application) -> AsyncIterator[None]:
    app[ANSWERING].lag.start()
    yield
    app[ANSWERING].lag.stop()


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
        return _refusal_answer(request, error.refusal)
    except NsedgeError as error:
        return _refusal_answer(request, Refusal.of(error))
    except web.HTTPException as error:
        return _http_answer(request, error)
    except ConnectionError:
        raise
    except Exception:
        log.exception("request %s failed", request[http_guard.REQUEST_ID])
        return _refusal_answer(request, Refusal.of(NsedgeError("internal error")))


def _http_answer(request: web.Request, error: web.HTTPException) -> web.Response:
    code = _HTTP_CODES.get(error.status, "invalid_request")
    message = f"{error.reason}: {request.method} {request.path}"
    answer = _refusal_answer(request, Refusal(code=code, message=message))
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    return answer


def _refusal_answer(request: web.Request, refusal: Refusal) -> web.Response:
    openai_route = request.path == "/v1" or request.path.startswith("/v1/")
    body = refusal.openai_body() if openai_route else refusal.plain_body()
    answer = web.Response(
        status=refusal.verdict.status,
        body=body,
        content_type="application/json",
        headers=refusal.headers(),
    )
    if not request.content.is_eof():
        answer.force_close()
    return answer


def _wants_usage(body: schema.OpenAiBody) -> bool:
    return body.stream_options is not None and bool(body.stream_options.include_usage)


async def _mark(request: web.Request, response: web.StreamResponse) -> None:
    answering = request.app[ANSWERING]
    http_guard.mark(request, response, answering.limits)
    response.headers.update(answering.rate_headers(request))


class _NoTrace(logging.Filter):
    """A client that does not speak HTTP is worth a line, not a trace each time."""

    def filter(self, record: logging.LogRecord) -> bool:
        cause = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(cause, HttpProcessingError):
            record.exc_info = None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True


def _quiet_logger() -> logging.Logger:
    quiet = logging.getLogger("nsedge.web.http")
    if not any(isinstance(each, _NoTrace) for each in quiet.filters):
        quiet.addFilter(_NoTrace())
    return quiet
