"""The demo's side of an SSE stream: make the request's body, show the text, tell the figures.

sse.py body MODEL PROMPT     the JSON to post
sse.py curl URL FILE         have curl post FILE, show the stream that comes
sse.py post URL FILE         the same without curl
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

JSON = "Content-Type: application/json"


def show(lines: Iterable[bytes], began_s: float) -> int:
    first_s = None
    for line in lines:
        if not line.startswith(b"data: "):
            if line.startswith(b"{"):  # an error came instead of a stream
                print(line.decode(), file=sys.stderr)
                return 1
            continue
        event = json.loads(line.removeprefix(b"data: "))
        if "error" in event:
            print(f"\n{event['error']}", file=sys.stderr)
            return 1
        if event.get("text"):
            first_s = first_s or time.monotonic()
            print(event["text"], end="", flush=True)
        if event.get("done"):
            return tell(event, began_s, first_s)
    print("\nthe stream ended without its last event", file=sys.stderr)
    return 1


def tell(end: dict, began_s: float, first_s: float | None) -> int:
    usage, decode_s = end["usage"], end["timings"]["decode_s"]
    figures = [f"{usage['prompt_tokens']} + {usage['completion_tokens']} tokens"]
    if first_s is not None:
        figures.append(f"first token {(first_s - began_s) * 1e3:.0f} ms")
    if decode_s > 0:
        figures.append(f"{(usage['completion_tokens'] - 1) / decode_s:.1f} tokens/s")
    print("\n" + " · ".join([*figures, end["reason"]]), flush=True)
    return 0


def main(words: list[str]) -> int:
    sys.stdout.reconfigure(errors="replace")  # a terminal may know fewer characters than a model
    match words:
        case ["body", model, prompt]:
            body = {"model": model, "text": prompt, "stream": True, "seed": 1, "max_tokens": 160}
            print(json.dumps(body))
            return 0
        case ["curl", url, file]:
            post = ["curl", "-sSN", "-H", JSON, "--data-binary", f"@{file}", url]
            began_s = time.monotonic()
            with subprocess.Popen(post, stdout=subprocess.PIPE) as curl:
                return show(curl.stdout or (), began_s)
        case ["post", url, file]:
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(url, Path(file).read_bytes(), headers)
            began_s = time.monotonic()
            with urllib.request.urlopen(request) as answer:
                return show(answer, began_s)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
