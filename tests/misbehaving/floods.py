"""Asks for a thousand things at once, and tells how each of them ended."""

import collections
import sys

from tests.misbehaving.wire import dealer, generate, hear, hello, say, tell

data = dealer(sys.argv[1])
hello(data)
for number in range(1000):
    say(data, generate(f"flood{number}", "one two"))
ends: dict[str, str] = {}
while len(ends) < 1000:
    for payload in hear(data):
        if payload["type"] in ("finished", "failed"):
            if payload["id"] in ends:
                tell(f"{payload['id']} ended twice")
            ends[payload["id"]] = payload.get("code", payload["type"])
tell(dict(collections.Counter(ends.values())))
