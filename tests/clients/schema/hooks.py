"""What schemathesis cannot read in the document: texts of our own formats, and rules between fields
that JSON Schema has no words for. Run by schemathesis, in its environment."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import schemathesis
from hypothesis import strategies as st

LETTERS = "edskypmxta"
PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
FORMATS = {
    "json-schema": st.sampled_from(['{"type": "object"}', '{"type": "integer"}', "true", "{}"]),
    "rust-regex": st.sampled_from(["[a-z]+", "yes|no", "\\d{2,4}", "."]),
    "grammar": st.sampled_from(['start: "a" "b"?', 'root ::= "a" | "b"', "start: /[a-z]+/"]),
    "no-letter-twice": st.lists(st.sampled_from(LETTERS), unique=True).map("".join),
    "base64": st.binary(min_size=1, max_size=16).map(lambda raw: base64.b64encode(raw).decode()),
    "picture": st.just(PICTURE),
}
for name, strategy in FORMATS.items():
    schemathesis.openapi.format(name, strategy)


CONSTRAINTS = (
    *("response_format", "structured_outputs", "grammar", "json_schema", "regex", "ebnf"),
    *(f"guided_{kind}" for kind in ("json", "json_object", "regex", "choice", "grammar")),
)
SAME = (
    ("max_tokens", "max_completion_tokens"),
    ("repetition_penalty", "repeat_penalty"),
    ("penalty_last_n", "repeat_last_n"),
    ("beams", "num_beams"),
)
MODEL = "echo"
"""That the fake core has."""


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Bodies that are valid name the model that is there, so that they come further than that."""
    if is_valid(case) and isinstance(case.body, dict):
        for field in ("model", "model_key"):
            if case.body.get(field) is not None:
                case.body[field] = MODEL
    return case


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Valid cases that break no rule; and all that are meant to be invalid."""
    return not (is_valid(case) and isinstance(case.body, dict) and any(broken(case.body)))


def is_valid(case: Any) -> bool:
    return case.meta is None or case.meta.generation.mode.is_positive


def broken(body: dict[str, Any]) -> Iterator[bool]:
    """Whether each rule is broken that JSON Schema has no words for, or a form has none."""
    fields = body | {_snake(name): one for name, one in (body.get("config") or {}).items()}
    most = fields.get("max_tokens") or fields.get("n_predict") or 2**31
    yield (fields.get("min_tokens") or 0) > most
    # Rules of bodies in JSON that are not told of forms, and of `config` with its own names.
    for one, other in SAME:
        yield None not in (fields.get(one), fields.get(other))
    yield sum(fields.get(name) not in (None, False) for name in CONSTRAINTS) > 1
    yield from _beams(fields)
    yield (
        bool(body.get("timestamp_granularities")) and body.get("response_format") != "verbose_json"
    )
    # A tool that is to be called is among the tools, and no two have one name.
    names = [(tool.get("function") or tool).get("name") for tool in body.get("tools") or ()]
    yield len(set(names)) < len(names)
    yield not {*_named(body.get("tool_choice"))} <= {*names}
    # What else than texts a turn of Anthropic's may hold follows from who speaks and was called.
    yield not all(map(_is_text, _blocks(body)))
    # The model has vectors of eight numbers.
    yield (body.get("dimensions") or 0) > 8


def _beams(fields: dict[str, Any]) -> Iterator[bool]:
    """Whether what is said of a beam search contradicts itself."""
    search, n = fields.get("use_beam_search"), fields.get("n") or fields.get("n_cmpl") or 1
    beams = fields.get("beams") or fields.get("num_beams")
    beams = beams or (fields.get("best_of") or n if search else 1)
    yield search is False and beams > 1
    yield bool(search and fields.get("temperature"))
    yield beams > 1 and n > beams
    of_them = (fields.get("length_penalty"), fields.get("early_stopping"))
    yield beams == 1 and (of_them[0] not in (None, 1) or of_them[1] not in (None, False))


def _blocks(body: dict[str, Any]) -> Iterator[Any]:
    for turn in body.get("messages") or ():
        yield from turn["content"] if isinstance(turn.get("content"), list) else ()


def _named(choice: Any) -> Iterator[str]:
    """The tools that a choice names."""
    if isinstance(choice, dict) and choice.get("type") in ("tool", "function"):
        yield (choice.get("function") or choice).get("name")
    elif isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        yield from (one["function"]["name"] for one in choice["allowed_tools"]["tools"])


def _is_text(block: Any) -> bool:
    return block.get("type") in (None, "text") and isinstance(block.get("text"), str)


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name)
