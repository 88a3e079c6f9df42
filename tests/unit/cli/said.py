"""What commands said, read."""

import json


def objects(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]
