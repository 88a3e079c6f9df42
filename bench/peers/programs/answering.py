"""The loop of a program that measures an engine: a line of JSON in, a line of JSON out.

Runs in the peers' environments: nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

Answer = Callable[..., dict[str, Any]]


def answer(operations: dict[str, Answer]) -> None:
    """Answer requests {"do": operation, ...} from standard input until it closes.

    What libraries print goes to standard error: standard output is for the answers alone.
    """
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        result = operations[request.pop("do")](**request)
        print(json.dumps(result), file=out, flush=True)
