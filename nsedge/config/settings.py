"""The settings there are: names, kinds, defaults and meanings. `config.reader` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

ENDPOINT_KIND = "ipc:///absolute/path or tcp://HOST:PORT"
FILE_KIND = "an absolute path, credential:NAME, or empty"
CREDENTIAL = "credential:"
"""Begins the name of a file that the service supervisor passes (systemd's LoadCredential)."""


def _text(meaning: str, kind: str, default: str | None = None) -> Meta:
    return Meta(description=meaning, title=kind, extra=None if default is None else {"as": default})


def _number(meaning: str, low: float, high: float) -> Meta:
    return Meta(description=meaning, ge=low, le=high)


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Core(_Section, frozen=True, kw_only=True):
    """The core's doors."""

    endpoint: Annotated[
        str,
        _text(
            "Where the core listens and clients connect.",
            ENDPOINT_KIND,
            "`ipc://$XDG_RUNTIME_DIR/nsedge/nsedge.sock`, or without that variable "
            "`ipc://HOME/run/nsedge.sock`, `HOME` being the setting",
        ),
    ]
    tcp_endpoint: Annotated[
        str, _text("A second door over TCP; empty is none.", "tcp://HOST:PORT, or empty")
    ] = ""
    socket_mode: Annotated[
        Literal["0600", "0660"],
        Meta(description="Who may connect to an ipc socket: its owner, or its group too."),
    ] = "0600"
    socket_group: Annotated[
        str,
        _text("Group that owns an ipc socket; empty is the process's own.", "a group's name"),
    ] = ""
    curve_secret: Annotated[
        str,
        _text(
            "This core's CURVE key: with it, TCP is encrypted and asks clients for theirs."
            " `nsedge keys server` makes one.",
            FILE_KIND,
        ),
    ] = ""
    curve_clients: Annotated[
        str,
        _text("Key file with the CURVE clients let in; `nsedge keys client` adds one.", FILE_KIND),
    ] = ""
    allow_cleartext: Annotated[
        bool,
        Meta(
            description="Allow TCP addresses beyond loopback without CURVE: whoever reaches them"
            " may use the daemon, and read what others say."
        ),
    ] = False
    heartbeat_s: Annotated[
        float, _number("Seconds of silence after which a client is pinged.", 0.1, 600)
    ] = 2.0
    liveness_s: Annotated[
        float, _number("Seconds of silence after which a client counts as gone.", 0.2, 3600)
    ] = 10.0
    stall_s: Annotated[
        float, _number("Seconds that a client may leave events untaken.", 0.1, 3600)
    ] = 30.0
    max_message_bytes: Annotated[
        int, _number("The largest message taken from a client.", 1024, 2**30)
    ] = 2**20
    media_bytes: Annotated[int, _number("Memory for media, kept by their hash.", 0, 2**40)] = 2**28
    max_sessions: Annotated[int, _number("Clients connected at once.", 1, 65536)] = 1024
    start_s: Annotated[
        float, _number("Seconds for which a supervisor is asked to wait for the models.", 1, 86400)
    ] = 900.0
    drain_s: Annotated[
        float, _number("Seconds that running requests get to end when the core stops.", 0, 3600)
    ] = 20.0


class Client(_Section, frozen=True, kw_only=True):
    """How commands and the shim reach a core over TCP with CURVE."""

    curve_secret: Annotated[
        str,
        _text("The client's own CURVE key, for a core.endpoint over TCP.", FILE_KIND),
    ] = ""
    server_key: Annotated[
        str,
        _text("The core's public CURVE key: 40 characters of Z85.", "40 characters, or empty"),
    ] = ""


class Models(_Section, frozen=True, kw_only=True):
    """What is served, and what of it is held in memory."""

    load: Annotated[
        tuple[str, ...],
        _text(
            "Bundles to load at the start, by name or alias in HOME/bundles or by path; empty is"
            " every one there, as far as they fit, but for versions that no alias stands for.",
            "a list of names or absolute paths",
        ),
    ] = ()
    pin: Annotated[
        tuple[str, ...],
        _text(
            "Models to load at the start and to keep, by name or alias: neither evicted nor"
            " unloaded for being idle.",
            "a list of names",
        ),
    ] = ()
    on_demand: Annotated[
        bool,
        Meta(description="Let a request load a model of HOME/bundles that is not in memory."),
    ] = True
    memory_bytes: Annotated[
        int,
        _number(
            "Memory for all models together; 0 is nine tenths of what is free at the start.",
            0,
            2**50,
        ),
    ] = 0
    device_memory_bytes: Annotated[
        int, _number("Memory of a GPU for all models together; 0 is all there is.", 0, 2**50)
    ] = 0
    keep_alive: Annotated[
        float | Literal["forever"],
        _text(
            "Seconds without a request after which a model leaves memory.", 'seconds, or "forever"'
        ),
    ] = "forever"
    keep_alives: Annotated[
        tuple[str, ...],
        _text(
            "Models, by name or alias, with a keep-alive of their own.",
            "a list of NAME=TIME: 300, 5m, now, forever",
        ),
    ] = ()
    aliases: Annotated[
        tuple[str, ...],
        _text(
            "Further names for models. One that is given at run time holds over restarts, until it"
            " is changed here.",
            "a list of ALIAS=NAME",
        ),
    ] = ()
    preload_top: Annotated[
        int,
        _number(
            "How many of the models likeliest to be asked for next are loaded while nothing runs,"
            " where they fit without any other leaving; 0 is none.",
            0,
            1024,
        ),
    ] = 2
    preload_share: Annotated[
        float,
        _number("The share of all models' memory that models nobody asked for may hold.", 0, 1),
    ] = 0.25
    preload_idle_s: Annotated[
        float, _number("Seconds without a request before one of them is loaded.", 0, 86400)
    ] = 2.0
    predictor: Annotated[
        Literal["patterns", "score"],
        Meta(
            description="What foretells: patterns of hour, order and frequency, or the score of"
            " use and recency alone."
        ),
    ] = "patterns"
    signers: Annotated[
        tuple[str, ...],
        _text(
            "Public keys (minisign's) of which one must have signed each bundle; empty asks for no"
            " signature.",
            "a list of public keys",
        ),
    ] = ()


class Engine(_Section, frozen=True, kw_only=True):
    """The bounds of each model's engine."""

    slots: Annotated[int, _number("Requests that run at once.", 1, 1024)] = 16
    context_tokens: Annotated[
        int,
        _number("Prompt and output of one request; less where the model holds less.", 16, 2**20),
    ] = 4096
    prefill_chunk_tokens: Annotated[
        int, _number("Prompt tokens read at once; fewer while other requests decode.", 1, 65536)
    ] = 128
    prefix_reuse: Annotated[
        Literal["off", "exact", "full"],
        Meta(
            description="Let prompts go on from what earlier ones with the same beginning left:"
            " exact, where that changes no text; or full, from their output always, which may be"
            " rounded another way."
        ),
    ] = "exact"
    step_stretch: Annotated[
        float,
        _number(
            "How often its quiet time 99 of 100 tokens may take while other prompts are read.",
            1,
            100,
        ),
    ] = 2.0
    burst_s: Annotated[
        float,
        _number(
            "Seconds for which prompts that meet an engine at rest together go first.", 0, 3600
        ),
    ] = 4.0
    max_queue: Annotated[int, _number("Requests that may wait for a slot.", 0, 10**6)] = 16384
    embed_batch_tokens: Annotated[
        int,
        _number("Tokens that an encoder runs at once, padding among them.", 16, 2**20),
    ] = 4096
    threads: Annotated[
        int,
        _number("Threads of the model; 0 follows the cores that quota and others leave.", 0, 1024),
    ] = 0
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        Meta(description="Where models run; auto takes the first variant that can run here."),
    ] = "auto"


class Web(_Section, frozen=True, kw_only=True):
    """The HTTP shim."""

    host: Annotated[str, _text("Address to listen on.", "an address or a host name")] = "127.0.0.1"
    port: Annotated[int, _number("Port to listen on; 0 is any free one.", 0, 65535)] = 3009
    keepalive_s: Annotated[
        float, _number("Seconds between comments on a silent stream.", 0.1, 3600)
    ] = 10.0
    keys: Annotated[
        str,
        _text(
            "Key file: with it, every route but /live and the page /dashboard asks for an API key"
            " of it. `nsedge keys add` adds one.",
            FILE_KIND,
        ),
    ] = ""
    allow_anonymous: Annotated[
        bool, Meta(description="Listen beyond loopback without asking anybody for a key.")
    ] = False
    tls_cert: Annotated[
        str,
        _text("Certificate chain, PEM: with it, HTTPS. Read anew when it changes.", FILE_KIND),
    ] = ""
    tls_key: Annotated[str, _text("The certificate's private key, PEM.", FILE_KIND)] = ""
    allow_cleartext: Annotated[
        bool, Meta(description="Listen beyond loopback without TLS: keys can be read on the way.")
    ] = False
    requests_per_minute: Annotated[
        int, _number("Requests of one key, where the key says nothing else; 0 is no limit.", 0, 1e9)
    ] = 0
    tokens_per_minute: Annotated[
        int,
        _number(
            "Tokens of one key, read and written, where the key says nothing else; 0 is no limit.",
            0,
            1e12,
        ),
    ] = 0
    max_connections: Annotated[
        int,
        _number(
            "HTTP connections open at once; three quarters of the files that the process may open,"
            " where those are fewer. Further ones are answered 503 and closed.",
            1,
            10**6,
        ),
    ] = 1000
    max_in_flight: Annotated[
        int,
        _number(
            "Requests of one model that the core has at once; further ones take turns by key. Best"
            " a little above engine.slots.",
            1,
            65536,
        ),
    ] = 32
    max_waiting: Annotated[
        int, _number("Requests of one key that may wait for their turn.", 0, 10**6)
    ] = 1024
    max_body_bytes: Annotated[int, _number("The largest request body.", 1024, 2**30)] = 4 * 2**20
    drain_s: Annotated[
        float, _number("Seconds that open streams get to end when the shim stops.", 0, 3600)
    ] = 20.0
    cors_origins: Annotated[
        tuple[str, ...],
        _text("Origins whose pages may call; empty is none.", "a list of origins"),
    ] = ()
    listeners: Annotated[
        tuple[str, ...],
        _text(
            "Doors (docs/http.md) that listen at an address of their own, and not beside the"
            " others: so one can be kept to loopback, or to another network.",
            "a list of DOOR=HOST:PORT",
        ),
    ] = ()
    ignored_fields: Annotated[
        tuple[str, ...],
        _text(
            "Fields of request bodies that are left out instead of refused, for clients that send"
            " some of their own; the answer names them in X-Ignored-Fields.",
            "a list of names",
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        _text(
            "Further names this server may be called by (Host header), beside its address and the"
            " machine's own name.",
            "a list of host names",
        ),
    ] = ()


class Log(_Section, frozen=True, kw_only=True):
    """The log on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least that is told.")
    ] = "info"
    json: Annotated[bool, Meta(description="One JSON object a line instead of text.")] = False
    prompts: Annotated[
        bool, Meta(description="The text of prompts, too; without it no text is ever told.")
    ] = False


class Observability(_Section, frozen=True, kw_only=True):
    """What is sent elsewhere."""

    otlp_endpoint: Annotated[
        str,
        _text(
            "An OpenTelemetry collector that takes spans over OTLP/HTTP, without `/v1/traces`;"
            " empty is what OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT say,"
            " or none. Needs the extra `telemetry`.",
            "http://HOST:PORT, https://HOST:PORT, or empty",
        ),
    ] = ""


class Settings(_Section, frozen=True, kw_only=True):
    """All settings in force."""

    home: Annotated[
        Path,
        _text(
            "Bundles and state.",
            "an absolute path",
            "`$XDG_DATA_HOME/nsedge`, or without that variable `~/.local/share/nsedge`",
        ),
    ]
    core: Core
    client: Client = Client()
    models: Models = Models()
    engine: Engine = Engine()
    web: Web = Web()
    log: Log = Log()
    observability: Observability = Observability()

    @property
    def bundles(self) -> Path:
        """Where bundles live."""
        return self.home / "bundles"

    @property
    def usage_file(self) -> Path:
        """Where the use of models is kept over restarts."""
        return self.home / "state" / "usage.json"

    @property
    def aliases_file(self) -> Path:
        """Where aliases that were given at run time are kept over restarts."""
        return self.home / "state" / "aliases.json"


SECTIONS: dict[str, type[_Section]] = {
    "core": Core,
    "client": Client,
    "models": Models,
    "engine": Engine,
    "web": Web,
    "log": Log,
    "observability": Observability,
}
