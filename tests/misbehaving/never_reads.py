"""Asks for text without end, with all the credit it can get, keeps its session alive, and reads
nothing."""

import sys
import time

from tests.misbehaving.wire import dealer, generate, hello, say, tell

data, control = dealer(sys.argv[1]), dealer(f"{sys.argv[1]}.control")
session = hello(data)
for number in range(4):
    say(data, generate(f"hog{number}", "word", credit=2**53))
tell("asked")
while True:
    say(control, {"type": "ping", "session": session})
    time.sleep(0.05)
