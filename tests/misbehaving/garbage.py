"""Sends what is no message: random frames, broken payloads, types and fields that do not exist, and
bytes that are not even ZMTP. Tells how many answers it got."""

import random
import socket
import sys

import msgpack
import zmq

from tests.misbehaving.wire import MAGIC, dealer, generate, hear, hello, say, tell

chance = random.Random(7)
data, control = dealer(sys.argv[1]), dealer(f"{sys.argv[1]}.control")


def rubbish(limit: int = 300) -> bytes:
    return chance.randbytes(chance.randrange(1, limit))


def expect_failures(door: zmq.Socket[bytes], count: int) -> None:
    while count > 0:
        for payload in hear(door):
            if payload["type"] == "failed":
                count -= 1


for door in (data, control):
    for _ in range(200):
        door.send_multipart([rubbish() for _ in range(chance.randrange(1, 5))])
    expect_failures(door, 200)
    for _ in range(200):
        door.send_multipart([MAGIC, b"\xc1" + rubbish()])
    expect_failures(door, 200)
session = hello(data)
valid = msgpack.packb(generate("a", "x"))
for cut in range(1, len(valid)):
    data.send_multipart([MAGIC, valid[:cut]])
expect_failures(data, len(valid) - 1)
say(data, {"type": "dance"}, {"type": "generate", "id": "a", "text": 5}, {"id": "a"})
expect_failures(data, 3)
data.send_multipart([MAGIC, *[valid] * 100])
expect_failures(data, 1)
for _ in range(20):
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(sys.argv[1].removeprefix("ipc://"))
        raw.sendall(rubbish(2000))
tell("done")
