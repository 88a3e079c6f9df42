"""Speaks version 2, in the handshake and in the envelope."""

import sys

import msgpack

from tests.misbehaving.wire import dealer, hear, say, tell

data = dealer(sys.argv[1])
say(data, {"type": "hello", "protocol": "2.0"})
codes = [hear(data)[0]["code"]]
data.send_multipart([b"nsedge/2", msgpack.packb({"type": "hello", "protocol": "2.0"})])
codes.append(hear(data)[0]["code"])
say(data, {"type": "models", "id": "q"})
codes.append(hear(data)[0]["code"])
tell(codes)
