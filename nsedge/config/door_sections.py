"""The sections on how the daemon is reached: the core, its clients, the HTTP shim and its doors."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from nsedge.config.fields import FILE_KIND, Section, number, text

ENDPOINT_KIND = "ipc:///absolute/path or tcp://HOST:PORT"


class Core(Section, frozen=True, kw_only=True):
    """The core's doors."""

    endpoint: Annotated[
        str,
        text(
            "Where the core listens and clients connect.",
            ENDPOINT_KIND,
            "`ipc://$XDG_RUNTIME_DIR/nsedge/nsedge.sock`, or without that variable "
            "`ipc://HOME/run/nsedge.sock`, `HOME` being the setting",
        ),
    ]
    tcp_endpoint: Annotated[
        str, text("A second door over TCP; empty is none.", "tcp://HOST:PORT, or empty")
    ] = ""
    socket_mode: Annotated[
        Literal["0600", "0660"],
        Meta(description="Who may connect to an ipc socket: its owner, or its group too."),
    ] = "0600"
    socket_group: Annotated[
        str,
        text("Group that owns an ipc socket; empty is the process's own.", "a group's name"),
    ] = ""
    curve_secret: Annotated[
        str,
        text(
            "This core's CURVE key: with it, TCP is encrypted and asks clients for theirs."
            " `nsedge keys server` makes one.",
            FILE_KIND,
        ),
    ] = ""
    curve_clients: Annotated[
        str,
        text("Key file with the CURVE clients let in; `nsedge keys client` adds one.", FILE_KIND),
    ] = ""
    allow_cleartext: Annotated[
        bool,
        Meta(
            description="Allow TCP addresses beyond loopback without CURVE: whoever reaches them"
            " may use the daemon, and read what others say."
        ),
    ] = False
    heartbeat_s: Annotated[
        float, number("Seconds of silence after which a client is pinged.", 0.1, 600)
    ] = 2.0
    liveness_s: Annotated[
        float, number("Seconds of silence after which a client counts as gone.", 0.2, 3600)
    ] = 10.0
    stall_s: Annotated[
        float, number("Seconds that a client may leave events untaken.", 0.1, 3600)
    ] = 30.0
    max_message_bytes: Annotated[
        int, number("The largest message taken from a client.", 1024, 2**30)
    ] = 2**20
    media_bytes: Annotated[int, number("Memory for media, kept by their hash.", 0, 2**40)] = 2**28
    max_sessions: Annotated[int, number("Clients connected at once.", 1, 65536)] = 1024
    start_s: Annotated[
        float, number("Seconds for which a supervisor is asked to wait for the models.", 1, 86400)
    ] = 900.0
    drain_s: Annotated[
        float, number("Seconds that running requests get to end when the core stops.", 0, 3600)
    ] = 20.0


class Client(Section, frozen=True, kw_only=True):
    """How commands and the shim reach a core over TCP with CURVE."""

    curve_secret: Annotated[
        str,
        text("The client's own CURVE key, for a core.endpoint over TCP.", FILE_KIND),
    ] = ""
    server_key: Annotated[
        str,
        text("The core's public CURVE key: 40 characters of Z85.", "40 characters, or empty"),
    ] = ""


class Web(Section, frozen=True, kw_only=True):
    """The HTTP shim."""

    host: Annotated[str, text("Address to listen on.", "an address or a host name")] = "127.0.0.1"
    port: Annotated[int, number("Port to listen on; 0 is any free one.", 0, 65535)] = 3009
    keepalive_s: Annotated[
        float, number("Seconds between comments on a silent stream.", 0.1, 3600)
    ] = 10.0
    keys: Annotated[
        str,
        text(
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
        text("Certificate chain, PEM: with it, HTTPS. Read anew when it changes.", FILE_KIND),
    ] = ""
    tls_key: Annotated[str, text("The certificate's private key, PEM.", FILE_KIND)] = ""
    allow_cleartext: Annotated[
        bool, Meta(description="Listen beyond loopback without TLS: keys can be read on the way.")
    ] = False
    requests_per_minute: Annotated[
        int, number("Requests of one key, where the key says nothing else; 0 is no limit.", 0, 1e9)
    ] = 0
    tokens_per_minute: Annotated[
        int,
        number(
            "Tokens of one key, read and written, where the key says nothing else; 0 is no limit.",
            0,
            1e12,
        ),
    ] = 0
    max_connections: Annotated[
        int,
        number(
            "HTTP connections open at once; three quarters of the files that the process may open,"
            " where those are fewer. Further ones are answered 503 and closed.",
            1,
            10**6,
        ),
    ] = 1000
    max_in_flight: Annotated[
        int,
        number(
            "Requests of one model that the core has at once; further ones take turns by key. Best"
            " a little above engine.slots.",
            1,
            65536,
        ),
    ] = 32
    max_waiting: Annotated[
        int, number("Requests of one key that may wait for their turn.", 0, 10**6)
    ] = 1024
    max_body_bytes: Annotated[int, number("The largest request body.", 1024, 2**30)] = 4 * 2**20
    max_upload_bytes: Annotated[
        int,
        number(
            "The largest form, which may bring sound or pictures; of these the core takes a quarter"
            " of core.media_bytes.",
            1024,
            2**32,
        ),
    ] = 64 * 2**20
    drain_s: Annotated[
        float, number("Seconds that open streams get to end when the shim stops.", 0, 3600)
    ] = 20.0
    cors_origins: Annotated[
        tuple[str, ...],
        text("Origins whose pages may call; empty is none.", "a list of origins"),
    ] = ()
    listeners: Annotated[
        tuple[str, ...],
        text(
            "Doors (docs/http.md) that listen at an address of their own, and not beside the"
            " others: so one can be kept to loopback, or to another network. A door may have"
            " several, and an address several doors.",
            "a list of DOOR=HOST:PORT",
        ),
    ] = ()
    extra_listeners: Annotated[
        tuple[str, ...],
        text(
            "Further addresses of doors, which stay beside the others, too: the chat service at the"
            " port that its clients expect, for one.",
            "a list of DOOR=HOST:PORT",
        ),
    ] = ()
    ignored_fields: Annotated[
        tuple[str, ...],
        text(
            "Fields of request bodies that are left out instead of refused, for clients that send"
            " some of their own; the answer names them in X-Ignored-Fields.",
            "a list of names",
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        text(
            "Further names this server may be called by (Host header), beside its address and the"
            " machine's own name.",
            "a list of host names",
        ),
    ] = ()


class Doors(Section, frozen=True, kw_only=True):
    """The behaviour of the shim's doors where a request does not say."""

    chunk: Annotated[
        Literal["token", "adaptive"] | Annotated[int, Meta(ge=1, le=1_000_000)],
        text(
            "How the text of a stream is cut: by token; adaptive, all that came while the reader"
            " took what came before; or into pieces of at least so many characters. Nothing is ever"
            " held back for a time.",
            '"token", "adaptive" or a number of characters',
        ),
    ] = "token"
    regular_model: Annotated[
        str,
        text(
            "The model of the chat service's /chat/regular where a request names none; empty is the"
            " first that is ready.",
            "a model's name",
        ),
    ] = ""
    vision_model: Annotated[
        str,
        text(
            "The model of the chat service's /chat/vision where a request names none: one that"
            " sees, or one that reads what others make of pictures (docs/media.md); empty is"
            " doors.regular_model.",
            "a model's name",
        ),
    ] = ""
    wyoming: Annotated[
        str,
        text(
            "Where Wyoming's clients, such as Home Assistant, are heard: their usual port is 10300."
            " Empty is nowhere. The protocol has no keys and no encryption (docs/security.md).",
            "HOST:PORT, or empty",
        ),
    ] = ""
    responses_kept: Annotated[
        int,
        number(
            "Responses (/v1/responses) kept in memory, to be gone on from or asked for again, the"
            " oldest leaving first; 0 keeps none.",
            0,
            1_000_000,
        ),
    ] = 256
    responses_kept_s: Annotated[
        float, number("Seconds for which a response is kept.", 1, 31_536_000)
    ] = 3600.0
    adaptations: Annotated[
        str,
        text(
            "File of JSON that says how the studio prompts single models (docs/doors/studio.md). It"
            " is read anew when it changes.",
            FILE_KIND,
        ),
    ] = ""
