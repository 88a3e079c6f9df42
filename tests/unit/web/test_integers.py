"""Integers that JSON writes with a fraction of zero."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from nsedge.web.integers import integer_of, with_integers
from tests.web_server import answered


class Inner(msgspec.Struct):
    count: Annotated[int, Meta(ge=0, extra_json_schema={"x": 1})] | None = None
    ratio: float = 0.0


class Outer(msgspec.Struct, rename="camel"):
    one_inner: Inner | None = None
    inners: list[Inner | int] = []
    named: dict[str, int] = {}
    pair: tuple[int, float] | None = None
    several: tuple[int, ...] = ()
    either: int | float | None = None
    anything: Any = None


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"oneInner": {"count": 1.0, "ratio": 2.0}}, {"oneInner": {"count": 1, "ratio": 2.0}}),
        ({"inners": [{"count": 3.0}, 4.0, 4.5]}, {"inners": [{"count": 3}, 4, 4.5]}),
        ({"named": {"a": 1e3}, "several": [2.0]}, {"named": {"a": 1000}, "several": [2]}),
        ({"pair": [1.0, 1.0]}, {"pair": [1, 1.0]}),
        ({"either": 1.0, "anything": [1.0]}, {"either": 1.0, "anything": [1.0]}),
        (
            {"oneInner": 1.0, "other": 1.0, "pair": [1.0]},
            {"oneInner": 1.0, "other": 1.0, "pair": [1.0]},
        ),
        (1.0, 1.0),
    ],
)
def test_floats_become_integers_where_these_are_wanted(value: Any, wanted: Any) -> None:
    assert msgspec.json.encode(with_integers(value, Outer)) == msgspec.json.encode(wanted)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(1.0, 1), (7, 7), (1.5, None), (True, None), ("1", None), (float("inf"), None)],
)
def test_what_is_an_integer(value: Any, wanted: int | None) -> None:
    found = integer_of(value)
    assert (found, type(found)) == (wanted, type(wanted))


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/api/generate", {"text": "a", "max_tokens": 2.0, "stop_token_ids": [3.0]}),
        ("/api/generate", {"text": "a", "logit_bias": [[3.0, 1], [4, False]]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "n": 2.0}),
        ("/chat", {"messages": [{"role": "user", "content": "a"}], "config": {"topK": 4.0}}),
        ("/api/v1/generate/batch", {"prompts": ["a"], "max_tokens": 2e0}),
    ],
)
def test_doors_take_them(route: str, body: dict[str, Any]) -> None:
    answer = answered("POST", route, {"model": "echo", **body})
    assert answer.status == 200, answer.body


def test_another_float_is_refused_by_name() -> None:
    answer = answered("POST", "/api/generate", {"text": "a", "top_k": 1.0, "max_tokens": 2.5})
    error: Any = answer.json["error"]
    assert (answer.status, error["param"]) == (400, "max_tokens")
    large = answered("POST", "/api/generate", {"text": "a", "max_tokens": 1e300})
    error = large.json["error"]
    assert (large.status, error["param"]) == (400, "max_tokens")
