"""Almost messages, and almost HTTP requests: the same from the same seed, for ever."""

from __future__ import annotations

import hashlib
import io
import json
import random
import wave
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
from PIL import Image

MAGIC = b"nsedge/1"
NOBODY = "nobody"
"""A model that is not there."""
REAL_SHARE = 0.02
"""Of requests, those for models that are there."""
VERSION = "1.6"

ROUTES = (
    "/",
    "/live",
    "/health",
    "/v1/models",
    "/v1/models/nobody",
    "/v1/chat/completions",
    "/v1/completions",
    "/api/generate",
    "/api/generate/stream",
    "/api/models",
    "/api/models/usage",
    "/api/models/load",
    "/api/models/alias",
    "/chat",
    "/chat/stream",
    "/chat/vision",
    "/models",
    "/models/load",
    "/help",
    "/api/v1/generate/stream",
    "/api/v1/generate/batch",
    "/api/v1/generate/ensemble",
    "/api/v1/models/preload",
    "/api/v1/ideas/nobody/rating",
    "/api/v1/stats",
    "/nowhere",
)
METHODS = ("GET", "POST", "POST", "POST", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "BREW")
HEADERS = (
    *("content-type", "content-length", "transfer-encoding", "host", "origin", "expect"),
    *("authorization", "content-encoding", "x-request-id", "upgrade", "cookie", "x"),
)
VALUES = (
    *("application/json", "text/plain", "0", "1", "-1", "99999999999999999999", "chunked"),
    *("gzip", "127.0.0.1", "evil.example", "100-continue", "websocket", "Bearer x", "", "\x7f"),
)
NUMBERS = (0, 1, -1, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, 1e308, float("inf"), float("nan"))
FEW = {"max_tokens": 4}
WORDS = ("", "a", "user", "1.2", "\0", "\ud7ff", "🦫", "a" * 300, "../../etc/passwd", "{{ x }}")


class Mutants:
    """Makes messages that are almost right."""

    def __init__(
        self, seed: int, *, model: str, beside: Sequence[str] = (), real_share: float = REAL_SHARE
    ) -> None:
        """`model` and those `beside` it are there, and `real_share` of requests are for them."""
        self._chance = random.Random(seed)
        self._models = (model, *beside)
        self._real_share = real_share

    def frames(self) -> list[bytes]:
        """The frames of a message to a ROUTER socket."""
        makers: tuple[Callable[[], list[bytes]], ...] = (
            lambda: [self._bytes(300) for _ in range(self._chance.randrange(1, 6))],
            lambda: [MAGIC, self._bytes(300)],
            lambda: [self._flipped(MAGIC), self._packed()],
            lambda: [MAGIC, self._flipped(self._packed())],
            lambda: [MAGIC, self._flipped(self._packed())],
            lambda: [MAGIC, self._cut(self._packed())],
            lambda: [MAGIC, self._packed(mutated=True)],
            lambda: [MAGIC, self._packed(mutated=True)],
            lambda: [MAGIC, self._packed()],
            lambda: [MAGIC, *(self._packed(mutated=True) for _ in range(self._below(70)))],
            lambda: [MAGIC, self._bomb()],
        )
        return self._chance.choice(makers)()

    def asked(self, label: str) -> bytes:
        """A request by the rules, for any task, whose recording or picture is almost one."""
        texts = [self._text() for _ in range(self._below(4))]
        media = [self._picture() for _ in range(self._below(3))]
        task: dict[str, Any] = self._chance.choice(
            (
                {"type": "transcribe", "media": self._sound()},
                {"type": "transcribe", "media": self._sound(), "word_timestamps": True},
                {"type": "caption", "media": media[0], "sampling": {"max_tokens": 4}},
                {"type": "embed", "inputs": texts},
                {"type": "embed", "inputs": media},
                {"type": "classify", "inputs": texts},
                {"type": "classify", "inputs": media, "labels": texts},
                {"type": "fill", "inputs": [f"{text} [MASK]" for text in texts]},
                {"type": "score", "query": texts[0], "documents": texts},
                {"type": "chat", "messages": self._shown(texts, media), "sampling": FEW},
                {"type": "chat", "messages": self._shown(texts, [self._film()]), "sampling": FEW},
            )
        )
        return bytes(msgpack.packb({"id": label, "model": self._target(), **task}))

    def request(self) -> bytes:
        """The bytes of an HTTP/1.1 request, its connection to be closed after it."""
        choose = self._chance.choice
        body = self._body()
        headers = {"host": "127.0.0.1", "content-type": "application/json"}
        headers |= {"content-length": str(len(body)), "connection": "close"}
        if self._chance.random() < 0.3:
            headers[choose(HEADERS)] = choose(VALUES)
        path = choose(ROUTES) + choose(("", "", "", "?a=b", "%00", "/", "/../x", "?" + "q" * 300))
        lines = [f"{choose(METHODS)} {path} HTTP/{choose(('1.1', '1.1', '1.1', '1.0', '9'))}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n"
        whole = head + body
        makers = (
            *(lambda: whole, lambda: whole, lambda: whole, lambda: whole),
            *(lambda: self._flipped(whole), lambda: self._flipped(head) + body),
            lambda: self._cut(whole),
            lambda: self._bytes(600),
        )
        return choose(makers)()

    def _below(self, limit: int) -> int:
        return self._chance.randrange(1, limit)

    def _bytes(self, limit: int) -> bytes:
        return self._chance.randbytes(self._below(limit))

    def _flipped(self, valid: bytes) -> bytes:
        changed = bytearray(valid)
        for _ in range(self._below(6)):
            changed[self._chance.randrange(len(changed))] = self._chance.randrange(256)
        return bytes(changed)

    def _cut(self, valid: bytes) -> bytes:
        return valid[: self._below(len(valid))] + self._chance.choice((b"", self._bytes(20)))

    def _bomb(self) -> bytes:
        """Nested deep, or claiming to be long."""
        deep = self._below(5000)
        bombs = (
            *(b"\x91" * deep, b"\x81\xa1a" * deep, b"\xdf\xff\xff\xff\xff"),
            *(b"\xdd\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9\x00\xff\xff\xff\x01"),
        )
        return self._chance.choice(bombs) + self._bytes(20)

    def _packed(self, *, mutated: bool = False) -> bytes:
        payload = self._message()
        if mutated:
            self._mutate(payload)
        return bytes(msgpack.packb(payload))

    def _body(self) -> bytes:
        if self._chance.random() < 0.15:
            return self._bytes(200)
        payload = self._wish()
        if self._chance.random() < 0.7:
            self._mutate(payload)
        text = json.dumps(payload, default=str)
        return text.encode("utf-8", "surrogatepass")

    def _target(self) -> str:
        real = self._chance.random() < self._real_share
        return self._chance.choice(self._models) if real else NOBODY

    def _wish(self) -> dict[str, Any]:
        turn = {"role": "user", "content": "Once"}
        few, model = self._below(4), self._target()
        wish = {"prompt": "Once", "messages": [turn], "text": "Once", "max_tokens": few}
        wish |= {"model_key": model, "config": {"maxTokens": few, "temperature": 0}}
        wish |= {"prompts": ["Once", ""], "models": [model], "model_keys": [model], "rating": few}
        return {"model": model, "stream": self._chance.random() < 0.5, **wish}

    def _message(self) -> dict[str, Any]:
        """A right one, of any type but those that would take the real model away."""
        label, model = f"f{self._below(30)}", self._target()
        sampling = {"max_tokens": self._below(4), "temperature": 0.0}
        asked = {"id": label, "model": model, "sampling": sampling}
        session = self._chance.randbytes(16)
        size, offset = self._below(40), self._chance.choice((0, 0, self._below(40)))
        named = {"media_type": "image/png", "sha256": self._media(size)["sha256"]}
        given = {"media_type": "image/png", "data": self._bytes(40)}
        parts = [{"type": "text", "text": "Once"}, {"type": "media", **named}]
        parts += [{"type": "media", **given}]
        return self._chance.choice(
            (
                {"type": "hello", "protocol": VERSION, "client": "fuzz"},
                {"type": "generate", "text": "Once", "credit": self._below(1000), **asked},
                {"type": "chat", "messages": [{"role": "user", "content": "Once"}], **asked},
                {"type": "embed", "inputs": ["Once", [1, 2]], "id": label, "model": model},
                {"type": "classify", "inputs": ["Once", ["a", "b"]], "id": label, "model": model},
                {"type": "fill", "inputs": ["a [MASK]"], "id": label, "model": model},
                {"type": "score", "query": "a", "documents": ["b"], "id": label, "model": model},
                {"type": "transcribe", "media": self._sound(), "id": label, "model": model},
                {"type": "caption", "media": self._picture(), **asked},
                {"type": "embed", "inputs": [self._picture()], "id": label, "model": model},
                {
                    "type": "classify",
                    "inputs": [self._picture()],
                    "labels": ["a", "b"],
                    "id": label,
                    "model": model,
                },
                {"type": "listen", "id": label, "model": model, "idle_s": 1.0},
                {
                    "type": "audio",
                    "id": label,
                    "data": self._bytes(400),
                    "then": self._chance.choice(("commit", "end", "clear")),
                },
                {"type": "chat", "messages": [{"role": "user", "content": parts}], **asked},
                {"type": "media_put", "id": label, "offset": offset, **self._media(size)},
                {"type": "credit", "id": label, "bytes": self._below(1000)},
                {"type": "cancel", "session": session, "id": label},
                {"type": "ping", "session": session},
                {"type": "models", "id": label},
                {"type": "stats", "id": label},
                {"type": "health", "id": label},
                {"type": "usage", "id": label},
                {"type": "load", "id": label, "model": NOBODY},
                {"type": "alias", "id": label, "alias": "other", "model": NOBODY},
                {"type": "bye"},
            )
        )

    def _text(self) -> str:
        """Words, control characters, or much of either."""
        text = self._chance.choice((*WORDS, "Wind and weather.", self._bytes(80).decode("latin-1")))
        return text * self._chance.choice((1, 1, 1, 1, self._below(300)))

    def _sound(self) -> dict[str, Any]:
        """A recording of a moment, or almost one."""
        written = io.BytesIO()
        with wave.open(written, "wb") as file:
            file.setparams((self._below(3), 2, self._chance.choice((8000, 16000)), 0, "NONE", ""))
            file.writeframes(self._chance.randbytes(4 * self._below(800)))
        return {"type": "media", "media_type": "audio/wav", "data": self._almost(written)}

    def _picture(self) -> dict[str, Any]:
        """A small picture, or almost one."""
        size, written = (self._below(40), self._below(40)), io.BytesIO()
        form = self._chance.choice(("png", "jpeg", "gif", "webp"))
        Image.new("RGB", size, (self._below(256), 0, 0)).save(written, form)
        return {"type": "media", "media_type": f"image/{form}", "data": self._almost(written)}

    def _film(self) -> dict[str, Any]:
        """A small animation, or almost one, with a choice of its frames that may be odd."""
        size, written = (self._below(40), self._below(40)), io.BytesIO()
        form, count = self._chance.choice(("gif", "webp")), self._below(6)
        first, *others = (
            Image.new("RGB", size, (self._below(256), 40 * number, 0)) for number in range(count)
        )
        first.save(written, form, save_all=True, append_images=others, duration=self._below(900))
        part = {"type": "media", "media_type": f"video/{form}", "data": self._almost(written)}
        choice = self._chance.choice(({}, {"fps": 2.0}, {"frames": 3}, {"fps": 1e9}))
        return part | choice

    def _shown(self, texts: list[str], media: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A message of media and texts."""
        parts = [*media, *({"type": "text", "text": text} for text in texts)]
        return [{"role": "user", "content": parts}]

    def _almost(self, file: io.BytesIO) -> bytes:
        whole = file.getvalue()
        return self._chance.choice((lambda: whole, lambda: self._flipped(whole),
                                    lambda: self._cut(whole)))()  # fmt: skip

    def _media(self, size: int) -> dict[str, Any]:
        """One of a few media, or a piece of it: it comes again, and is known then."""
        whole = bytes([size]) * size
        piece = whole[: self._chance.choice((size, size, self._below(size + 1)))]
        return {"sha256": hashlib.sha256(whole).hexdigest(), "size": size, "data": piece}

    def _mutate(self, payload: dict[str, Any]) -> None:
        """Take away, change or add a few fields, of the payload or of what is in it."""
        for _ in range(self._below(4)):
            name = self._chance.choice((*payload, self._chance.choice(WORDS)))
            inner = payload.get(name)
            if isinstance(inner, dict) and inner and self._chance.random() < 0.7:
                self._mutate(inner)
            elif self._chance.random() < 0.3:
                payload.pop(name, None)
            else:
                payload[name] = self._anything()

    def _anything(self, depth: int = 3) -> Any:
        kind = self._chance.randrange(8 if depth else 5)
        match kind:
            case 0:
                return self._chance.choice(NUMBERS)
            case 1:
                return self._chance.choice(WORDS)
            case 2:
                return self._chance.choice((None, True, False))
            case 3:
                return self._chance.randrange(-1000, 1000)
            case 4:
                return self._bytes(40).decode("latin-1")
            case 5 | 6:
                return [self._anything(depth - 1) for _ in range(self._below(4))]
            case _:
                names = [self._chance.choice(WORDS) for _ in range(self._below(4))]
                return {name: self._anything(depth - 1) for name in names}
