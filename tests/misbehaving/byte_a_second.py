"""Speaks ZMTP 3.0 by hand over a bare socket, asks for text without end, and then reads one byte a
second."""

import socket
import sys
import time

import msgpack

from tests.misbehaving.wire import MAGIC, generate, tell

MORE, LAST, COMMAND = 1, 0, 4
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


def frame(flags: int, body: bytes) -> bytes:
    return bytes([flags, len(body)]) + body


def message(payload: dict[str, object]) -> bytes:
    return frame(MORE, MAGIC) + frame(LAST, msgpack.packb(payload))


raw = socket.socket(socket.AF_UNIX)
raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
raw.connect(sys.argv[1].removeprefix("ipc://"))
raw.sendall(GREETING)
raw.recv(64, socket.MSG_WAITALL)
raw.sendall(frame(COMMAND, READY))
raw.recv(2)
raw.sendall(message({"type": "hello", "protocol": "1.0"}))
raw.sendall(message(generate("hog0", "word", credit=200)))
tell("asked")
while raw.recv(1):
    time.sleep(1)
