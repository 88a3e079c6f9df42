"""Runs checks in turn. No part of nsedge is imported here: these are other people's clients."""

import os
from collections.abc import Callable

URL = os.environ["NSEDGE_URL"]
MODEL = os.environ["NSEDGE_MODEL"]
EMBEDDINGS = os.environ["NSEDGE_EMBEDDINGS"]
ASKED = "Name the capital of France."
HI = [{"role": "user", "content": ASKED}]


def run(*checks: Callable[[], None]) -> None:
    """Print the name of each check that holds."""
    for check in checks:
        check()
        print(check.__name__, flush=True)


def raised(kind: type[Exception], call: Callable[[], object]) -> Exception:
    """What `call` raises, which is of `kind`."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")
