"""Calls between tokens: LFM2's, DeepSeek's and Kimi's, from examples that their makers publish."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsedge.runtime.text.answer.calls import CallReader
from nsedge.runtime.text.answer.formats import (
    DEEPSEEK,
    DEEPSEEK_V3_1,
    KIMI,
    LFM2,
    CallFormat,
    format_of,
    python_call,
)
from nsedge.runtime.text.answer.parts import CallPiece, Said, joined
from tests.token_templates import TEMPLATES
from tests.unit.runtime.text.answer.test_calls import Read, read, reader

STATUS = ("get_candidate_status", {"candidate_id": "12345"})
WEATHER = ("get_weather", {"city": "Beijing", "days": 2})
RAIN = ("rain", {})
R1 = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{}\n```json\n{}\n```<｜tool▁call▁end｜>"
V3_1 = "<｜tool▁call▁begin｜>{}<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
SECTION = "<｜tool▁calls▁begin｜>{}<｜tool▁calls▁end｜>"
K2 = "<|tool_call_begin|>{}<|tool_call_argument_begin|>{}<|tool_call_end|>"
K2_SECTION = "<|tool_calls_section_begin|>{}<|tool_calls_section_end|>"
CITY = '{"city": "Beijing", "days": 2}'
GOOD: dict[str, tuple[CallFormat, str, list[tuple[str, dict[str, Any]]], str]] = {
    "lfm2": (
        LFM2,
        '<|tool_call_start|>[get_candidate_status(candidate_id="12345")]<|tool_call_end|>'
        "Checking the current status of candidate ID 12345.",
        [STATUS],
        "Checking the current status of candidate ID 12345.",
    ),
    "lfm2, single quotes, two": (
        LFM2,
        "Let me see.<|tool_call_start|>[get_weather(city='Beijing', days=2), rain()]"
        "<|tool_call_end|>",
        [WEATHER, RAIN],
        "Let me see.",
    ),
    "lfm2, no list": (LFM2, "<|tool_call_start|>rain()<|tool_call_end|>", [RAIN], ""),
    "lfm2, as JSON": (
        LFM2,
        '<|tool_call_start|>[{"name": "get_candidate_status", "arguments":'
        ' {"candidate_id": "12345"}}]<|tool_call_end|>Checking.',
        [STATUS],
        "Checking.",
    ),
    "lfm2, one object": (
        LFM2,
        '<|tool_call_start|>{"name": "rain", "arguments": {}}<|tool_call_end|>',
        [RAIN],
        "",
    ),
    "deepseek": (DEEPSEEK, SECTION.format(R1.format("get_weather", CITY)), [WEATHER], ""),
    "deepseek, two": (
        DEEPSEEK,
        "I look." + SECTION.format(f"{R1.format('get_weather', CITY)}\n{R1.format('rain', '{}')}"),
        [WEATHER, RAIN],
        "I look.",
    ),
    "deepseek, no section": (DEEPSEEK, R1.format("rain", "{}"), [RAIN], ""),
    "deepseek, no code block": (
        DEEPSEEK,
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>rain\n{}<｜tool▁call▁end｜>",
        [RAIN],
        "",
    ),
    "deepseek, as V3.1": (DEEPSEEK, SECTION.format(V3_1.format("rain", "{}")), [RAIN], ""),
    "deepseek-v3.1": (
        DEEPSEEK_V3_1,
        SECTION.format(V3_1.format("get_weather", CITY) + V3_1.format("rain", "{}")),
        [WEATHER, RAIN],
        "",
    ),
    "deepseek-v3.1, as R1": (
        DEEPSEEK_V3_1,
        SECTION.format(R1.format("get_weather", CITY)),
        [WEATHER],
        "",
    ),
    "kimi": (
        KIMI,
        "Sure." + K2_SECTION.format(K2.format("functions.get_weather:0", CITY)),
        [WEATHER],
        "Sure.",
    ),
    "kimi, two": (
        KIMI,
        K2_SECTION.format(
            K2.format("functions.get_weather:0", CITY) + K2.format("functions.rain:1", "{}")
        ),
        [WEATHER, RAIN],
        "",
    ),
    "kimi, cut off behind its arguments": (
        KIMI,
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.rain:0"
        "<|tool_call_argument_begin|>{}",
        [RAIN],
        "",
    ),
}


def calls_of(found: Read) -> list[tuple[str, dict[str, Any]]]:
    return [(name, json.loads(arguments)) for name, arguments in found.calls]


@pytest.mark.parametrize("name", GOOD)
def test_calls_are_told_from_the_text_in_any_split(name: str) -> None:
    form, text, calls, said = GOOD[name]
    for pieces in ([text], list(text), [text[:40], text[40:]]):
        found = read(form, pieces)
        assert (calls_of(found), found.text) == (calls, said)


@pytest.mark.parametrize("form", [LFM2, DEEPSEEK, DEEPSEEK_V3_1, KIMI], ids=lambda form: form.name)
def test_what_we_write_is_what_we_read(form: CallFormat) -> None:
    text = form.written("get_weather", CITY)
    assert calls_of(read(form, list(text))) == [WEATHER]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("lfm2", LFM2),
        ("lfm2.5", LFM2),
        ("deepseek-r1", DEEPSEEK),
        ("deepseek-v3.1", DEEPSEEK_V3_1),
        ("kimi-k2", KIMI),
    ],
)
def test_templates_tell_the_form(name: str, form: CallFormat) -> None:
    assert format_of(TEMPLATES[name]) is form


def test_kimis_calls_have_the_ids_that_its_template_shows_again() -> None:
    found = read(KIMI, [GOOD["kimi, two"][1]])
    assert found.ids == ["functions.get_weather:0", "functions.rain:1"]
    bare = read(KIMI, [K2.format("rain", "{}")])
    assert (bare.ids, bare.calls) == (["rain"], [("rain", "{}")])


def test_arguments_come_as_they_are_written() -> None:
    one = reader(LFM2)
    assert one.push("Hm <|tool_call_start|>[su") == [Said("Hm ")]
    assert joined(one.push('n(city="Os')) == [
        CallPiece(0, "", id="id0", name="sun"),
        CallPiece(0, '{"city": "Os'),
    ]
    assert joined(one.push('lo"')) == [CallPiece(0, "lo")]
    assert joined(one.push(", d=5")) == [CallPiece(0, '", "d": ')]
    assert joined(one.push(")]")) == [CallPiece(0, "5}")]
    one = reader(DEEPSEEK)
    assert one.push("<｜tool▁call▁begin｜>function<｜tool▁sep｜>sun\n```json\n{") == [
        CallPiece(0, "", id="id0", name="sun"),
        CallPiece(0, "{"),
    ]


BAD = (
    (LFM2, "<|tool_call_start|>no"),
    (LFM2, "<|tool_call_start|>[sun(5)]<|tool_call_end|>"),
    (LFM2, "<|tool_call_start|>[]<|tool_call_end|>"),
    (LFM2, "[sun(a=1)]"),
    (DEEPSEEK, "<｜tool▁call▁begin｜>function"),
    (DEEPSEEK, "<｜tool▁call▁begin｜>function<｜tool▁sep｜>sun\n```json\nno"),
    (KIMI, "<|tool_call_begin|>functions.sun:0<|tool_call_argument_begin|>no"),
    (KIMI, "<|tool_call_begin|>functions.sun:0 {}"),
)


@pytest.mark.parametrize(("form", "text"), BAD)
def test_what_is_no_call_is_text(form: CallFormat, text: str) -> None:
    for pieces in ([text], list(text)):
        found = read(form, pieces)
        assert (found.text, found.calls) == (text, [])


def python(text: str) -> Any:
    """The arguments of a call `f` that is written so, from any split of it."""
    marked = f"<|tool_call_start|>[f({text})]<|tool_call_end|>"
    whole, letters = (read(LFM2, pieces) for pieces in ([marked], list(marked)))
    assert whole.calls == letters.calls
    assert (whole.text, letters.text) == ("", "")
    ((name, arguments),) = whole.calls
    assert name == "f"
    return json.loads(arguments)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("a=True, b=False, c=None", {"a": True, "b": False, "c": None}),
        ("a=true, b=null", {"a": True, "b": None}),
        ("a=-1, b=1_000, c=.5, d=1., e=-2.5e-3, f=007, g=+4",
         {"a": -1, "b": 1000, "c": 0.5, "d": 1.0, "e": -2.5e-3, "f": 7, "g": 4}),
        ("a=[1, 'x', [True]], b=(1, 2), c=[], d=()",
         {"a": [1, "x", [True]], "b": [1, 2], "c": [], "d": []}),
        ("a={'k': {'l': [None]}, \"m\": 1}, b={}", {"a": {"k": {"l": [None]}, "m": 1}, "b": {}}),
        ("a='it\\'s', b=\"say \\\"x\\\"\"", {"a": "it's", "b": 'say "x"'}),
        ("a='it's fine', b='x'", {"a": "it's fine", "b": "x"}),
        ("a='\\n\\t\\\\ \\x41 \\u00df \\U0001F600 \\ud83d\\ude00'",
         {"a": "\n\t\\ A ß 😀 😀"}),
        ("a='\\ud83d', b='\\q'", {"a": "\N{REPLACEMENT CHARACTER}", "b": "\\q"}),
        ("a=Oslo, b=2024-05-01", {"a": "Oslo", "b": "2024-05-01"}),
        ("a='ä 😀',b = 1 ,", {"a": "ä 😀", "b": 1}),
        ("größe=1", {"größe": 1}),
    ],
)  # fmt: skip
def test_literals_of_python_become_json(written: str, value: dict[str, Any]) -> None:
    assert python(written) == value


@pytest.mark.parametrize(
    "text", ["a=", "a=[1", "a='x", "a={1: 2}", f"a={'[' * 40}", "a 1", "a=1 b"]
)
def test_what_breaks_within_arguments_ends_the_call(text: str) -> None:
    found = read(LFM2, list(f"<|tool_call_start|>[f({text}<|tool_call_end|>"))
    assert [name for name, _ in found.calls] == ["f"]
    with pytest.raises(json.JSONDecodeError):
        json.loads(found.calls[0][1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.from_regex(r"[a-z_]\w{0,6}", fullmatch=True), JSON, max_size=3))
def test_any_arguments_are_read_as_they_were_written(arguments: dict[str, Any]) -> None:
    call = python_call("f", json.dumps(arguments))
    assert python(call[2:-1]) == arguments


MARKS = tuple({mark: None for form in (LFM2, DEEPSEEK, KIMI) for mark in form.marks})


@given(
    st.sampled_from([LFM2, DEEPSEEK, DEEPSEEK_V3_1, KIMI]),
    st.lists(
        st.sampled_from(
            [
                *MARKS,
                "[",
                "]",
                "(",
                ")",
                "{",
                "}",
                "f",
                "=",
                "'",
                '"',
                ",",
                "\\",
                "1",
                " ",
                "\n",
                "```",
            ]
        ),
        max_size=24,
    ),
    st.randoms(use_true_random=False),
)
def test_any_split_of_anything_gives_the_same(
    form: CallFormat, pieces: list[str], random: Any
) -> None:
    text = "".join(pieces)
    whole = read(form, [text])
    cuts = sorted(random.sample(range(len(text) + 1), min(len(text), 3)))
    parts = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    found = read(form, parts)
    assert (found.text, found.calls, found.order) == (whole.text, whole.calls, whole.order)


def test_where_one_call_is_wanted_it_is_the_end() -> None:
    for name in ("lfm2, single quotes, two", "deepseek, two", "kimi, two"):
        form, text, calls, _ = GOOD[name]
        assert calls_of(read(form, list(text), parallel=False)) == calls[:1]
    one = CallReader(KIMI, tools=(), new_id=lambda: "x", parallel=False)
    one.push(K2.format("functions.rain:0", "{}"))
    assert one.is_full
