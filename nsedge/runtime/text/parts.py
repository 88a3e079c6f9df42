"""What a message says, as a template wants it: a text, or a list of parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

PLACE = "\ufdd3"
"""Stands for a picture in a text until a template is given it: no character of Unicode's."""
SOUND_PLACE = "\ufdd4"
"""Stands for a sound."""
ANY_PLACE = re.compile(f"([{PLACE}{SOUND_PLACE}])")
_KINDS = {PLACE: "image", SOUND_PLACE: "audio"}
"""What templates call it."""
_PROBE = "qzxj"

Turn = dict[str, Any]
Render = Callable[[Mapping[str, Any]], str]


def wants_parts(render: Render) -> bool:
    """Whether the template that `render` renders leaves out a text that comes as it is, and shows
    one that comes as a part."""

    def shows(content: Any) -> bool:
        variables = {
            "messages": [{"role": "user", "content": content}],
            "tools": None,
            "documents": None,
            "add_generation_prompt": False,
        }
        try:
            return _PROBE in render(variables)
        except Exception:  # a template is code, and may fail in any way
            return False

    return not shows(_PROBE) and shows(in_parts(_PROBE))


def takes_pictures(render: Render, marker: str) -> bool:
    """Whether the template writes `marker` for a part that is a picture."""
    content = [{"type": "image"}, {"type": "text", "text": _PROBE}]
    variables = {
        "messages": [{"role": "user", "content": content}],
        "tools": None,
        "documents": None,
        "add_generation_prompt": False,
    }
    try:
        text = render(variables)
    except Exception:  # a template is code, and may fail in any way
        return False
    return text.count(marker) == 1 and _PROBE in text


def in_parts(text: str) -> list[dict[str, str]]:
    """A text with places for media as a list of parts. Of line ends beside a place one is the
    part's own, and goes."""
    parts: list[dict[str, str]] = []
    pieces = ANY_PLACE.split(text)  # at odd numbers, places
    for number, piece in enumerate(pieces):
        if number % 2:
            parts.append({"type": _KINDS[piece]})
            continue
        if number:
            piece = piece.removeprefix("\n")
        if number < len(pieces) - 1:
            piece = piece.removesuffix("\n")
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts or [{"type": "text", "text": ""}]


def parted(turns: Sequence[Turn], *, all_of_them: bool) -> list[Turn]:
    """Turns with places for pictures as such parts; `all_of_them` are the others, too."""
    return [
        turn | {"content": in_parts(turn["content"])}
        if isinstance(turn["content"], str) and (all_of_them or ANY_PLACE.search(turn["content"]))
        else turn
        for turn in turns
    ]
