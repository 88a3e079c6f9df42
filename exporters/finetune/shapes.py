"""The shapes in which people keep examples, each turned into one conversation.

| shape | a row |
|---|---|
| alpaca | instruction, input (may be empty or absent), output; system, history |
| prompt | prompt, completion; system |
| messages | messages: a list of role and content, as OpenAI has them |
| sharegpt | conversations: a list of from (human, gpt, system) and value; system |

The first is that of Stanford Alpaca, with LLaMA-Factory's `history`; `response` stands for `output`
and `completion` as well, `context` for `input`. Keys that are not told here are left aside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from exporters.finetune.examples import Turn
from nsedge.api.messages import joined

MAX_TURNS = 1000


class Shape(StrEnum):
    """What a row looks like. AUTO finds it out for each row."""

    AUTO = "auto"
    ALPACA = "alpaca"
    PROMPT = "prompt"
    MESSAGES = "messages"
    SHAREGPT = "sharegpt"


class BadRow(Exception):
    """A row is no conversation; the message is the reason."""


class Conversation(msgspec.Struct, frozen=True):
    """Turns; those of the assistant whose places are in `muted` are there, but not to be learnt.

    `pictures`: the files that stand in the turns' places for them, in order.
    """

    turns: tuple[Turn, ...]
    muted: frozenset[int] = frozenset()
    pictures: tuple[str, ...] = ()


SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = {
    "system": SYSTEM,
    "developer": SYSTEM,
    "user": USER,
    "human": USER,
    "assistant": ASSISTANT,
    "gpt": ASSISTANT,
    "chatgpt": ASSISTANT,
    "model": ASSISTANT,
    "bot": ASSISTANT,
}
TURN_KEYS = ("messages", "conversations", "conversation")
INPUT_KEYS = ("input", "context")
OUTPUT_KEYS = ("output", "response")
COMPLETION_KEYS = ("completion", "response")

Fields = Mapping[str, Any]


def conversation(row: object, shape: Shape, *, system: str | None) -> Conversation:
    """What `row` holds, with `system` before it where it has no system turn of its own.

    Raises:
        BadRow: with the reason.
    """
    if not isinstance(row, dict):
        raise BadRow(f"{_kind(row)}, not an object")
    found = _READERS[shape_of(row) if shape is Shape.AUTO else shape](row)
    turns = found.turns
    if system is not None and turns and turns[0].role != SYSTEM:
        moved = frozenset(place + 1 for place in found.muted)
        found = Conversation((Turn(SYSTEM, system), *turns), moved)
    _check(found)
    return found


def shape_of(row: Fields) -> Shape:
    """The shape that the keys of `row` tell.

    Raises:
        BadRow: none does.
    """
    for key in TURN_KEYS:
        if key in row:
            turns = _turn_list(row, (key,))
            return Shape.SHAREGPT if "from" in turns[0] else Shape.MESSAGES
    if "instruction" in row:
        return Shape.ALPACA
    if "prompt" in row:
        return Shape.PROMPT
    keys = ", ".join(sorted(str(key) for key in row)[:8]) or "none"
    raise BadRow(f"no known shape (its keys: {keys[:200]})")


def _alpaca(row: Fields) -> Conversation:
    given = _text(row, ("instruction",))
    addition = _text(row, INPUT_KEYS, needed=False)
    answer = _text(row, OUTPUT_KEYS)
    asked = f"{given}\n\n{addition}" if addition.strip() else given
    return Conversation((*_system(row), *_history(row), Turn(USER, asked), Turn(ASSISTANT, answer)))


def _history(row: Fields) -> list[Turn]:
    """LLaMA-Factory's earlier rounds: a list of question and answer."""
    rounds = unpacked(row.get("history") or [])
    turns = []
    for pair in rounds if isinstance(rounds, list) else [rounds]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(x) is str for x in pair)):
            raise BadRow("history is no list of pairs of texts")
        turns += [Turn(USER, pair[0]), Turn(ASSISTANT, pair[1])]
    return turns


def _prompt(row: Fields) -> Conversation:
    prompt = _text(row, ("prompt",))
    completion = _text(row, COMPLETION_KEYS)
    return Conversation((*_system(row), Turn(USER, prompt), Turn(ASSISTANT, completion)))


def _messages(row: Fields) -> Conversation:
    turns = _turn_list(row, TURN_KEYS)
    muted = frozenset(place for place, turn in enumerate(turns) if turn.get("weight") == 0)
    read = tuple(
        _turn(turn, place, role="role", content="content") for place, turn in _from1(turns)
    )
    return Conversation(read, muted)


def _sharegpt(row: Fields) -> Conversation:
    turns = _turn_list(row, TURN_KEYS)
    read = tuple(_turn(turn, place, role="from", content="value") for place, turn in _from1(turns))
    system = [] if read[0].role == SYSTEM else _system(row)
    return Conversation((*system, *read))


_READERS: dict[Shape, Callable[[Fields], Conversation]] = {
    Shape.ALPACA: _alpaca,
    Shape.PROMPT: _prompt,
    Shape.MESSAGES: _messages,
    Shape.SHAREGPT: _sharegpt,
}


def _from1(turns: list[dict[str, Any]]) -> enumerate[dict[str, Any]]:
    return enumerate(turns, 1)


def _turn_list(row: Fields, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    key = next((key for key in keys if key in row), None)
    if key is None:
        raise BadRow(f"no {keys[0]}")
    turns = unpacked(row[key])
    if not isinstance(turns, list):
        raise BadRow(f"{key} is {_kind(turns)}, not a list")
    if not turns:
        raise BadRow(f"{key} is empty")
    if len(turns) > MAX_TURNS:
        raise BadRow(f"{len(turns)} turns; at most {MAX_TURNS}")
    for place, turn in enumerate(turns, 1):
        if not isinstance(turn, dict):
            raise BadRow(f"turn {place} is {_kind(turn)}, not an object")
    return turns


def unpacked(value: object) -> object:
    """A list of a row; in a CSV it is written as JSON within a field."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return value


def _turn(turn: Fields, place: int, *, role: str, content: str) -> Turn:
    named = turn.get(role)
    if not isinstance(named, str):
        raise BadRow(f"turn {place} has no {role}")
    known = ROLES.get(named.strip().lower())
    if known is None:
        raise BadRow(f"turn {place}: {role} {named[:40]!r} is not system, user or assistant")
    for calls in ("tool_calls", "function_call"):
        if turn.get(calls):
            raise BadRow(f"turn {place} has {calls}, which are not for training here")
    return Turn(known, _content(turn.get(content), place, content))


def _content(value: object, place: int, name: str) -> str:
    """A text, or OpenAI's list of parts that are all texts, put together as a request's are."""
    if isinstance(value, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in value]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) != len(parts):
            raise BadRow(f"turn {place} has a part that is no text")
        return joined(texts)
    if not isinstance(value, str):
        raise BadRow(f"turn {place}: {name} is {_kind(value)}, not a text")
    return value


def _system(row: Fields) -> list[Turn]:
    text = _text(row, ("system",), needed=False)
    return [Turn(SYSTEM, text)] if text.strip() else []


def _text(row: Fields, keys: tuple[str, ...], *, needed: bool = True) -> str:
    key = next((key for key in keys if row.get(key) is not None), None)
    if key is None:
        if needed:
            raise BadRow(f"no {keys[0]}")
        return ""
    value = row[key]
    if not isinstance(value, str):
        raise BadRow(f"{key} is {_kind(value)}, not a text")
    if needed and not value.strip():
        raise BadRow(f"{key} is empty")
    return value


def _check(found: Conversation) -> None:
    spoken = [turn for turn in found.turns if turn.role != SYSTEM]
    if not any(turn.role == ASSISTANT for turn in spoken):
        raise BadRow("the assistant says nothing")
    if spoken[0].role == ASSISTANT:
        raise BadRow("the assistant speaks before any user")
    for place, turn in enumerate(found.turns, 1):
        if turn.role == ASSISTANT and not turn.content.strip():
            raise BadRow(f"turn {place}: the assistant's words are empty")
    if all(i in found.muted for i, turn in enumerate(found.turns) if turn.role == ASSISTANT):
        raise BadRow("every turn of the assistant has weight 0")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    if value is None:
        return "null"
    return names.get(type(value), "a number")
