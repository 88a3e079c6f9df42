"""Guesses session keys on the control socket, to cancel what is not its own."""

import os
import sys

from tests.misbehaving.wire import dealer, hear, say, tell

control = dealer(f"{sys.argv[1]}.control")
codes = set()
for _ in range(500):
    for payload in (
        {"type": "cancel", "session": os.urandom(16), "id": "mine"},
        {"type": "ping", "session": os.urandom(16)},
        {"type": "cancel", "session": b"", "id": "mine"},
    ):
        say(control, payload)
        codes |= {answer["code"] for answer in hear(control)}
tell(sorted(codes))
