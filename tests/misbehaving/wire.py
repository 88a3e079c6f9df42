"""What the programs say, with nothing of nsedge in it: blocking sockets and msgpack."""

from __future__ import annotations

import sys
from typing import Any

import msgpack
import zmq

MAGIC = b"nsedge/1"


def dealer(endpoint: str) -> zmq.Socket[bytes]:
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.linger = 0
    socket.connect(endpoint)
    return socket


def say(socket: zmq.Socket[bytes], *payloads: dict[str, Any]) -> None:
    socket.send_multipart([MAGIC, *map(msgpack.packb, payloads)])


def hear(socket: zmq.Socket[bytes]) -> list[dict[str, Any]]:
    _, *payloads = socket.recv_multipart()
    return [msgpack.unpackb(payload) for payload in payloads]


def hello(socket: zmq.Socket[bytes]) -> bytes:
    say(socket, {"type": "hello", "protocol": "1.0", "client": sys.argv[0]})
    return bytes(hear(socket)[0]["session"])


def generate(label: str, text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "generate", "id": label, "model": "echo", "text": text, **fields}


def tell(word: object) -> None:
    """Tell the test how far the program is."""
    print(word, flush=True)
