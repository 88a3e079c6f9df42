"""What an answer is made of: text, thoughts and calls; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from nsedge.api import ReasoningDelta, Result, ToolCall, ToolCallDelta


def thoughts_in(results: Iterable[Result]) -> str:
    """What the model thought before it answered."""
    return "".join(one.text for one in results if isinstance(one, ReasoningDelta))


def calls_in(results: Iterable[Result]) -> list[ToolCall]:
    """The tools that it called, in their order."""
    pieces = [one for one in results if isinstance(one, ToolCallDelta)]
    first = [one for one in pieces if one.call_id is not None]
    return [
        ToolCall(
            id=one.call_id or "",
            name=one.name or "",
            arguments="".join(each.arguments for each in pieces if each.index == one.index),
        )
        for one in first
    ]


def arguments_of(call: ToolCall) -> dict[str, Any] | None:
    """The arguments of a call as an object; None where they are none, as those of a call are that
    broke off."""
    try:
        return msgspec.json.decode(call.arguments, type=dict[str, Any])
    except msgspec.DecodeError:
        return None


class CallsInStream:
    """Puts the pieces of calls together, for formats that tell each call at once."""

    def __init__(self) -> None:
        self._pieces: list[ToolCallDelta] = []

    def feed(self, piece: ToolCallDelta) -> Sequence[ToolCall]:
        """The calls that `piece` ends: the one before it, where it begins another."""
        done = self.rest() if piece.call_id is not None else ()
        self._pieces.append(piece)
        return done

    def rest(self) -> Sequence[ToolCall]:
        """The call that is under way, which nothing follows."""
        pieces, self._pieces = self._pieces, []
        return calls_in(pieces)
