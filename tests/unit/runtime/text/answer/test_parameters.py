"""Calls whose arguments are parameters: the JSON that is made of them, however they come."""

from __future__ import annotations

import json

from nsedge.runtime.text.answer.calls import CallReader
from nsedge.runtime.text.answer.formats import PARAMETERS
from nsedge.runtime.text.answer.parts import CallPiece
from tests.unit.runtime.text.answer.test_calls import PARAMETERS_TEXT, RAIN, TOOLS, Read, reader

PARAMETERS_SAID = (
    '{"city": "Sa\u00f5 \\"P\\"\\n <b>", "days": [1, {"x": null}], "sure": true, "when": "soon"}'
)
EMPTY_TEXT = "<tool_call>\n<function=rain>\n</function>\n</tool_call>"


def read_parameters(pieces: list[str]) -> Read:
    one = CallReader(
        PARAMETERS,
        tools=TOOLS,
        new_id=lambda: "id",
        is_text=lambda name, key: (name, key) == ("sun", "city"),
    )
    found = Read()
    for piece in pieces:
        found.take(one.push(piece))
    found.take(one.end())
    return found


def test_parameters_are_given_on_as_an_object() -> None:
    text = f"So. {PARAMETERS_TEXT}\n{EMPTY_TEXT}\nThere."
    whole = read_parameters([text])
    assert whole.calls == [("sun", PARAMETERS_SAID), RAIN]
    assert whole.text == "So. There."
    json.loads(PARAMETERS_SAID)
    assert read_parameters(list(text)) == whole
    for at in range(len(text)):
        assert read_parameters([text[:at], text[at:]]) == whole


def test_a_long_text_comes_as_it_is_written() -> None:
    one = reader(PARAMETERS)
    begun = one.push("<tool_call>\n<function=sun>\n<parameter=city>\nOs")
    assert begun == [
        CallPiece(0, "", id="id0", name="sun"),
        CallPiece(0, '{"city": '),
        CallPiece(0, '"'),
        CallPiece(0, "Os"),
    ]
    assert one.push("lo\n") == [CallPiece(0, "lo")]
    assert one.push("</param") == []
    assert one.push("eter>\n</function>") == [CallPiece(0, '"'), CallPiece(0, "}")]
