"""Which characters are never printed raw."""

from __future__ import annotations

import json

import pytest

from nsedge.printable import escaped, escaped_json, is_printable

CONTROLS = ["\x00", "\t", "\n", "\r", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u202e", "\udcff"]


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_character_is_told_apart_and_escaped(control):
    name = f"a{control}b"
    assert not is_printable(name)
    shown = escaped(name)
    assert shown.isascii()
    assert shown.isprintable()
    assert shown == f"a{ascii(control)[1:-1]}b"


@pytest.mark.parametrize("name", ["smollm2-135m", "a b", "modèle", "模型:v2", "🙂", "a\u200db"])
def test_other_text_stays_as_it_is(name):
    assert is_printable(name)
    assert escaped(name) == name


@pytest.mark.parametrize("control", CONTROLS[:-1])
def test_json_says_the_same_without_control_characters(control):
    value = {"name": f"é{control}b"}
    text = escaped_json(json.dumps(value, ensure_ascii=False))
    assert is_printable(text)
    assert json.loads(text) == value
