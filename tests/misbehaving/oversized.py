"""Sends a message beyond the limit, which is answered, and one far beyond, which is not."""

import sys

from tests.misbehaving.wire import dealer, generate, hear, hello, say, tell

data = dealer(sys.argv[1])
hello(data)
say(data, generate("big", "x" * 2**20))
(failure,) = hear(data)
tell((failure["id"], failure["code"]))
say(data, generate("huge", "x" * 2**23))
tell("sent" if not data.poll(300) else hear(data))
