"""Asks for something, sees it started, and waits to be killed."""

import sys

from tests.misbehaving.wire import dealer, generate, hear, hello, say, tell

data = dealer(sys.argv[1])
hello(data)
say(data, generate("doomed", "word"))
hear(data)
tell("started")
sys.stdin.read()
