"""Calls in a growing text: every format, any split, and what is no call."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsedge.runtime.text.answer.calls import CallReader
from nsedge.runtime.text.answer.formats import (
    FORMATS,
    FUNCTIONARY,
    HERMES,
    LLAMA,
    MISTRAL,
    PARAMETERS,
    PHI,
    Body,
    CallFormat,
)
from nsedge.runtime.text.answer.parts import CallPiece, Part, Said

ARGUMENTS = '{"city": "Sa\\u00f5 \\"P\\"", "days": [1, {"x": null}], "deep": {"a": {}}}'
SUN = ("sun", ARGUMENTS)
RAIN = ("rain", "{}")
TOOLS = frozenset({"sun", "rain"})
FORMS = [form for form in FORMATS.values() if form.body is not Body.CHANNELS]


@dataclass
class Read:
    """An answer put together again."""

    text: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)

    def take(self, parts: list[Part]) -> None:
        for part in parts:
            if isinstance(part, Said):
                assert part.text
                self.text += part.text
                self._came("text")
            elif isinstance(part, CallPiece):
                if part.name is not None:
                    assert part.index == len(self.calls), "indices count from 0"
                    assert part.id is not None
                    self.calls.append((part.name, ""))
                    self.ids.append(part.id)
                else:
                    assert part.arguments
                    assert part.id is None
                    assert part.index == len(self.calls) - 1, "calls are not mixed"
                    name, before = self.calls[-1]
                    self.calls[-1] = (name, before + part.arguments)
                self._came(f"call{part.index}")

    def _came(self, what: str) -> None:
        if self.order[-1:] != [what]:
            self.order.append(what)


def reader(form: CallFormat, *, parallel: bool = True) -> CallReader:
    ids = itertools.count()
    return CallReader(form, tools=TOOLS, new_id=lambda: f"id{next(ids)}", parallel=parallel)


def read(form: CallFormat, pieces: list[str], *, parallel: bool = True) -> Read:
    one, found = reader(form, parallel=parallel), Read()
    for piece in pieces:
        found.take(one.push(piece))
    found.take(one.end())
    assert one.calls == len(found.calls)
    return found


def as_object(name: str, arguments: str, key: str = "arguments") -> str:
    return f'{{"name": "{name}", "{key}": {arguments}}}'


SUN_OBJECT, RAIN_OBJECT = as_object(*SUN), as_object(*RAIN)
GOOD = {
    "hermes": (HERMES, f"<tool_call>\n{SUN_OBJECT}\n</tool_call>", [SUN]),
    "hermes, two": (
        HERMES,
        f"<tool_call>\n{SUN_OBJECT}\n</tool_call>\n<tool_call>{RAIN_OBJECT}</tool_call>",
        [SUN, RAIN],
    ),
    "hermes, an array (SmolLM2)": (
        HERMES,
        f"<tool_call>[\n{SUN_OBJECT},\n{RAIN_OBJECT}\n]</tool_call>",
        [SUN, RAIN],
    ),
    "hermes, no end": (HERMES, f"<tool_call>\n{SUN_OBJECT}", [SUN]),
    "hermes, a bracket missing": (HERMES, f"<tool_call>{SUN_OBJECT[:-1]}\n</tool_call>", [SUN]),
    "hermes, a bracket too many": (HERMES, f"<tool_call>{SUN_OBJECT}}}\n</tool_call>", [SUN]),
    "hermes, arguments first": (
        HERMES,
        f'<tool_call>{{"arguments": {ARGUMENTS}, "name": "sun"}}</tool_call>',
        [SUN],
    ),
    "hermes, arguments in a string": (
        HERMES,
        f'<tool_call>{{"name": "sun", "arguments": {json.dumps(ARGUMENTS)}}}</tool_call>',
        [SUN],
    ),
    "hermes, none": (HERMES, '<tool_call>{"name": "rain"}</tool_call>', [RAIN]),
    "hermes, null": (HERMES, as_object("rain", "null").join(HERMES.marks), [RAIN]),
    "hermes, as OpenAI writes it": (
        HERMES,
        f'<tool_call>{{"id": "7", "type": "function", "function": {SUN_OBJECT}}}</tool_call>',
        [SUN],
    ),
    "hermes, of a tool that there is not": (
        HERMES,
        '<tool_call>{"name": "snow", "arguments": {}}</tool_call>',
        [("snow", "{}")],
    ),
    "hermes, unmarked": (HERMES, f"\n{SUN_OBJECT}\n{RAIN_OBJECT}", [SUN, RAIN]),
    "hermes, in a code block": (HERMES, f"```json\n{SUN_OBJECT}\n```", [SUN]),
    "hermes, two in a code block": (
        HERMES,
        f"```\n{SUN_OBJECT}\n{RAIN_OBJECT}\n```\n",
        [SUN, RAIN],
    ),
    "hermes, unmarked and marked": (
        HERMES,
        f"{SUN_OBJECT}\n<tool_call>{RAIN_OBJECT}</tool_call>",
        [SUN, RAIN],
    ),
    "llama": (LLAMA, as_object(*SUN, "parameters"), [SUN]),
    "llama, its type": (
        LLAMA,
        f'{{"type": "function", "name": "sun", "parameters": {ARGUMENTS}}}',
        [SUN],
    ),
    "llama, name as function": (
        LLAMA,
        f'{{"type": "function", "function": "sun", "parameters": {ARGUMENTS}}}',
        [SUN],
    ),
    "llama, marked": (LLAMA, f"<|python_tag|>{as_object(*SUN, 'parameters')}", [SUN]),
    "llama, two": (
        LLAMA,
        f" {as_object(*SUN, 'parameters')}; {as_object(*RAIN, 'parameters')}",
        [SUN, RAIN],
    ),
    "mistral": (MISTRAL, f"[TOOL_CALLS] [{SUN_OBJECT}, {RAIN_OBJECT}]", [SUN, RAIN]),
    "mistral, with ids": (
        MISTRAL,
        f'[TOOL_CALLS][{{"name": "sun", "arguments": {ARGUMENTS}, "id": "123456789"}}]',
        [SUN],
    ),
    "mistral, headed": (
        MISTRAL,
        f"[TOOL_CALLS]sun[ARGS]{ARGUMENTS}[TOOL_CALLS]rain[ARGS]{{}}",
        [SUN, RAIN],
    ),
    "mistral, headed with an id": (
        MISTRAL,
        f"[TOOL_CALLS]sun[CALL_ID]123456789[ARGS]{ARGUMENTS}",
        [SUN],
    ),
    "mistral, headed by a name alone": (MISTRAL, f"[TOOL_CALLS]sun{ARGUMENTS}", [SUN]),
    "phi": (PHI, f"<|tool_call|>[{SUN_OBJECT}, {RAIN_OBJECT}]<|/tool_call|>", [SUN, RAIN]),
    "phi, functools": (PHI, f"functools[{SUN_OBJECT}]", [SUN]),
    "functionary": (
        FUNCTIONARY,
        f"<function=sun>{ARGUMENTS}</function><function=rain>{{}}</function>",
        [SUN, RAIN],
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_call_is_read_however_it_comes(case: str) -> None:
    form, text, calls = GOOD[case]
    whole = read(form, [text])
    assert whole.calls == calls
    assert whole.text == ""
    assert read(form, list(text)) == whole
    for at in range(len(text)):
        assert read(form, [text[:at], text[at:]]) == whole


MARKED = [case for case in GOOD if not GOOD[case][0].bare and GOOD[case][1][0] in "<[f"]


@pytest.mark.parametrize("case", MARKED)
def test_text_before_and_after_is_kept(case: str) -> None:
    form, text, calls = GOOD[case]
    if case == "hermes, no end":
        return
    found = read(form, list(f"Let me see.\n {text}\n\nThat was < it."))
    assert found.text == "Let me see.\n That was < it."
    assert found.calls == calls
    assert (found.order[0], found.order[-1]) == ("text", "text")


def test_text_behind_a_bare_call_is_kept() -> None:
    found = read(LLAMA, list(f"{as_object(*SUN, 'parameters')}\nDone; really."))
    assert (found.text, found.calls) == ("Done; really.", [SUN])


PARAMETERS_TEXT = """\
<tool_call>
<function=sun>
<parameter=city>
Sa\u00f5 "P"
 <b>
</parameter>
<parameter=days>
[1, {"x": null}]
</parameter>
<parameter=sure>
True
</parameter>
<parameter=when>
soon
</parameter>
</function>
</tool_call>"""
BAD = (
    (PARAMETERS, "<tool_call>\n<function=sun>\nno"),
    (PARAMETERS, "<tool_call>\n<function=>\n</function>"),
    (PARAMETERS, "<tool_call>\n<function=a b>\n</function>"),
    (PARAMETERS, "<tool_call>\n<function=sun>\n<parameter=a\n>"),
    (PARAMETERS, "<tool_call>sun"),
    (HERMES, "<tool_call>"),
    (HERMES, "<tool_call></tool_call>"),
    (HERMES, "<tool_call>sun(1)</tool_call>"),
    (HERMES, "<tool_call>{}</tool_call>"),
    (HERMES, '<tool_call>{"name": 1, "arguments": {}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "a b", "arguments": {}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "sun", "arguments": [1]}</tool_call>'),
    (HERMES, '<tool_call>{"name": "sun", "arguments": "no"}</tool_call>'),
    (HERMES, '<tool_call>{"name": "sun", "arguments": "\\ud800"}</tool_call>'),
    (HERMES, '<tool_call>{"name": "sun", "thing": {}}</tool_call>'),
    (HERMES, '<tool_call>{[1]: "sun"}</tool_call>'),
    (HERMES, '<tool_call>{"name": "sun"'),
    (HERMES, "a < b, <tool, </tool_call> and <tool_cal"),
    (HERMES, f"So: {as_object(*SUN)}"),
    (HERMES, '```json\n{"a": 1}\n```'),
    (HERMES, "```python\nprint()\n```"),
    (HERMES, '{"name": "Ada", "arguments": {}}'),
    (PHI, as_object(*SUN)),
    (LLAMA, '{"name": "Ada", "parameters": {}}'),
    (LLAMA, '{"city": "Paris"}'),
    (LLAMA, "The answer is {}."),
    (LLAMA, f"So: {as_object(*SUN, 'parameters')}"),
    (LLAMA, '<|python_tag|>brave_search.call(query="sun")'),
    (MISTRAL, "[TOOL_CALLS]"),
    (MISTRAL, "[TOOL_CALLS][]"),
    (MISTRAL, "[TOOL_CALLS]sun[ARGS]no"),
    (MISTRAL, "[1, 2]"),
    (PHI, "import functools\nfunctools.cache"),
    (PHI, "functools [1]"),
    (FUNCTIONARY, "<function=sun>no</function>"),
    (FUNCTIONARY, "<function=>{}</function>"),
    (FUNCTIONARY, "<function=sun {}"),
)


@pytest.mark.parametrize(("form", "text"), BAD)
def test_what_is_no_call_is_text(form: CallFormat, text: str) -> None:
    for pieces in ([text], list(text)):
        found = read(form, pieces)
        assert (found.text, found.calls) == (text, [])


def test_a_call_behind_what_is_none() -> None:
    found = read(HERMES, list(f"<tool_call>{{<tool_call>{SUN_OBJECT}</tool_call>!"))
    assert (found.text, found.calls) == ("<tool_call>{!", [SUN])


def test_what_breaks_within_arguments_ends_the_call_and_is_text() -> None:
    text = f'<tool_call>{{"name": "sun", "arguments": {{"a": 1<tool_call>{RAIN_OBJECT}</tool_call>'
    found = read(HERMES, list(text))
    assert found.calls == [("sun", '{"a": 1'), RAIN]
    assert found.text == ""
    cut = read(HERMES, ['<tool_call>{"name": "sun", "arguments": {"a": "b'])
    assert (cut.calls, cut.text) == ([("sun", '{"a": "b')], "")


def test_arguments_come_as_they_are_written() -> None:
    one = reader(HERMES)
    assert one.push('Hm <tool_call>{"name": "sun", "arg') == [Said("Hm ")]
    assert one.push('uments": {"a') == [
        CallPiece(0, "", id="id0", name="sun"),
        CallPiece(0, '{"a'),
    ]
    assert one.push('": 1') == [CallPiece(0, '": 1')]
    assert one.push("}}</tool_call>") == [CallPiece(0, "}")]
    assert one.end() == []


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_only_half_marks_are_held_back(form: CallFormat) -> None:
    for mark in form.begins:
        one = reader(form)
        assert one.push("abc") == [Said("abc")]
        for length in range(1, len(mark)):
            assert one.push(mark[length - 1]) == []
        assert one.push(" no") == [Said(f"{mark[:-1]} no")]


def test_where_one_call_is_wanted_it_is_the_end() -> None:
    text = f"Well. <tool_call>{SUN_OBJECT}</tool_call>\n<tool_call>{RAIN_OBJECT}</tool_call>."
    assert read(HERMES, list(text), parallel=False).calls == [SUN]
    one = reader(HERMES, parallel=False)
    one.push(text[: text.index("</tool_call>") - 1])
    assert not one.is_full
    one.push("}")
    assert one.is_full
    assert one.push("more") == one.end() == []


TEXTS = st.lists(
    st.sampled_from(
        [
            *(mark for form in FORMATS.values() for mark in form.marks),
            *(
                "[CALL_ID]",
                ";",
                " ",
                "\n",
                "a",
                "{",
                "}",
                "[",
                "]",
                '"',
                ":",
                ",",
                "\\",
                "1",
                "\x00",
            ),
            *('"name": "sun"', '"arguments": ', '"parameters": ', "sun", SUN_OBJECT, RAIN_OBJECT),
            as_object(*SUN, "parameters"),
            *("<function=sun>", "<parameter=a>", "</parameter>", "</function>", PARAMETERS_TEXT),
        ]
    ),
    max_size=14,
).map("".join)


@given(form=st.sampled_from(FORMS), text=TEXTS, data=st.data())
def test_any_split_gives_the_same(form: CallFormat, text: str, data: st.DataObject) -> None:
    whole = read(form, [text])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    assert read(form, pieces) == whole
    assert read(form, list(text)) == whole
    if not whole.calls:
        assert whole.text == text
    for _, arguments in whole.calls if form is not PARAMETERS else ():
        assert arguments in text or json.dumps(arguments)[1:-1] in text or arguments == "{}"
