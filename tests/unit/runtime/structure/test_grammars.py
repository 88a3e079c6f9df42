"""Constraints compiled, followed, and refused."""

from __future__ import annotations

import gc
import json
import sys

import numpy as np
import pytest

from nsedge.api import Constraint
from nsedge.errors import ConstraintFailure, InvalidParameter
from nsedge.runtime.structure.grammars import KEPT, Grammars
from nsedge.runtime.structure.guide import Guide
from tests.unit.runtime.structure.vocabularies import CALL, END, SIZE, falling_back, printable

TOKENIZER = printable()


def grammars() -> Grammars:
    return Grammars(TOKENIZER, size=SIZE, end_ids=(END,))


def ids(text: str) -> list[int]:
    found: list[int] = TOKENIZER.encode(text).ids
    return found


def may(guide: Guide) -> set[int]:
    bits = np.unpackbits(guide.mask().view(np.uint8), count=SIZE, bitorder="little")
    return set(np.flatnonzero(bits).tolist())


def fits(constraint: Constraint, text: str) -> bool:
    """Whether an answer may be `text`, each token of it allowed by the mask before it."""
    guide = grammars().guide(constraint)
    for token in ids(text):
        if token not in may(guide):
            return False
        guide.accept(token)
        guide.fill()
    return guide.done or END in may(guide)


AGE = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 150}},
    "required": ["age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        (Constraint.json_schema(AGE), '{"age":42}', '{"age":151}'),
        (Constraint.json_schema(json.dumps(AGE)), '{"age": 0}', '{"age":"x"}'),
        (Constraint.json_schema(True), "[1, null]", "[1, nul]"),
        (Constraint.json_object(), '{"a": [1, {}]}', "[1]"),
        (Constraint.regex("a{2,3}"), "aaa", "aaaa"),
        (Constraint.regex("a{2,3}"), "aa", "a"),
        (Constraint.choice(["red", 'a "b"']), 'a "b"', "re"),
        (Constraint.choice([f"n {n} of many" for n in range(4096)]), "n 4095 of many", "n 4096 "),
        (Constraint.json_object(), '{"a":' + " " * 32 + "1}", '{"a":' + " " * 33 + "1}"),
        (
            Constraint.json_schema({"const": 1, "x-guidance": {"whitespace_flexible": False}}),
            "1",
            " 1",
        ),
        (Constraint.lark('start: "a" /[0-9]+/ "b"'), "a12b", "ab"),
        (Constraint.gbnf('root ::= "yes" | "no" [!]?'), "no!", "yes!"),
        (
            Constraint.gbnf(r'root ::= [\u0061-\u0063]{2} "\x2d" "\U0000007A" "\\u0041"'),
            r"ab-z\u0041",
            "ab-zA",
        ),
    ],
)
def test_what_fits_may_come_and_nothing_else(constraint: Constraint, good: str, bad: str) -> None:
    assert fits(constraint, good)
    assert not fits(constraint, bad)


def test_the_end_may_come_only_where_the_answer_is_whole() -> None:
    guide = grammars().guide(Constraint.regex("ab?"))
    assert END not in may(guide)
    guide.accept(ids("a")[0])
    guide.fill()
    assert not guide.done
    assert may(guide) == {END, ids("b")[0]}
    guide.accept(ids("b")[0])
    assert guide.done


def test_every_end_of_the_model_may_end_it() -> None:
    made = Grammars(TOKENIZER, size=SIZE, end_ids=(END, ids("z")[0]))
    guide = made.guide(Constraint.regex("a+"))
    guide.accept(ids("a")[0])
    guide.fill()
    assert {END, ids("z")[0]} <= may(guide)


def test_what_must_come_is_known_and_not_taken() -> None:
    guide = grammars().guide(Constraint.lark('start: "x" "abc" /[0-9]/'))
    guide.accept(ids("x")[0])
    assert list(guide.forced()) == ids("abc")
    assert guide.allowed([*ids("abc"), ids("7")[0], ids("x")[0]]) == [*ids("abc"), ids("7")[0]]
    for token in guide.forced():
        guide.accept(token)
    assert list(guide.forced()) == []


def test_a_special_token_is_named_in_a_grammar_and_nothing_spells_it() -> None:
    guide = grammars().guide(Constraint.lark('start: <call> "a" | "b"'))
    assert may(guide) == {CALL, ids("b")[0]}
    assert CALL not in may(grammars().guide(Constraint.regex("(?s:.)*")))


def test_a_text_that_is_the_name_of_a_special_token_is_spelt() -> None:
    for text in ("<call>", "say <end> twice"):
        guide, said = grammars().guide(Constraint.choice([text])), list[int]()
        while not guide.done:
            guide.fill()
            said.append(min(may(guide)))
            guide.accept(said[-1])
            for token in guide.forced():
                said.append(token)
                guide.accept(token)
        assert not {CALL, END}.intersection(said)
        assert "".join(map(TOKENIZER.id_to_token, said)).replace("Ġ", " ") == text


def test_a_grammar_may_begin_at_a_trigger() -> None:
    lazy = Constraint.lark(
        'start: (call)* TAIL\ncall: head /[0-9]+/ "$"\nhead[lazy]: TAIL "@("\nTAIL: /(.|\\n)*/\n'
    )
    assert fits(lazy, "free text (abc)")
    assert fits(lazy, "so: @(12$ and more")
    assert not fits(lazy, "so: @(ab$")


def test_a_token_that_does_not_fit_fails_the_guide_for_good() -> None:
    guide = grammars().guide(Constraint.regex("a+"))
    with pytest.raises(ConstraintFailure):
        guide.accept(ids("b")[0])
    guide.fill()
    with pytest.raises(ConstraintFailure):
        guide.accept(END)


def test_a_guide_that_fails_fails_no_other_of_its_grammar() -> None:
    made = grammars()
    first, second = (made.guide(Constraint.regex("a+b")) for _ in range(2))
    with pytest.raises(ConstraintFailure):
        first.accept(ids("z")[0])
    second.accept(ids("a")[0])
    third = made.guide(Constraint.regex("a+b"))
    assert ids("a")[0] in may(third)


@pytest.mark.parametrize(
    ("constraint", "told"),
    [
        (Constraint.json_schema({"type": "objekt"}), "objekt"),
        (Constraint.json_schema({"$ref": "#/$defs/none"}), "none"),
        (Constraint.json_schema({"$ref": "https://example.com/x.json"}), "example.com"),
        (Constraint.json_schema({"type": "string", "pattern": "(?<!a)b"}), "look-around"),
        (Constraint.json_schema({"type": "object", "dependentSchemas": {}}), "dependentSchemas"),
        (Constraint.json_schema(False), "json_schema"),
        (Constraint.json_schema('{"not":' * 200 + "{}" + "}" * 200), "recursion limit"),
        (Constraint.regex("a("), "unclosed group"),
        (Constraint.lark('start: "a'), "1("),
        (Constraint.lark("start: b"), "b"),
        (Constraint.gbnf("root = x"), "line 1"),
        (Constraint.gbnf("root ::= x"), "Rule 'x' not found"),
        (Constraint.gbnf('root ::= "a" ' + "(" * 5000), "nested too deep"),
        (Constraint.lark("start: <nothing_like_it>"), "nothing_like_it"),
        (Constraint.regex(""), "empty"),
        (Constraint.gbnf(r'root ::= "\u3042"'), "tokens can write"),
    ],
)
def test_what_cannot_be_compiled_is_refused_with_its_reason(
    constraint: Constraint, told: str
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        grammars().guide(constraint)
    assert caught.value.param == "constraint"
    assert told in caught.value.message
    assert "\n" not in caught.value.message


def test_nothing_is_left_of_a_model_that_is_gone() -> None:
    tokenizer = printable()
    made = Grammars(tokenizer, size=SIZE, end_ids=(END,))
    guide = made.guide(Constraint.json_object())
    guide.accept(ids("{")[0])
    left = sys.getrefcount(tokenizer)
    del made, guide
    gc.collect()
    assert sys.getrefcount(tokenizer) < left


def test_grammars_are_kept_by_their_text() -> None:
    made = grammars()
    for number in range(KEPT + 8):
        made.guide(Constraint.choice([f"a{number}"]))
    assert len(made._kept) == KEPT
    assert Constraint.choice([f"a{KEPT + 7}"]) in made._kept
    assert Constraint.choice(["a0"]) not in made._kept


def test_a_grammar_that_failed_is_compiled_anew() -> None:
    made, constraint = grammars(), Constraint.regex("a+")
    first = made.guide(constraint)
    kept = made._kept[constraint]
    made.guide(constraint)
    assert made._kept[constraint] is kept
    with pytest.raises(ConstraintFailure):
        first.accept(ids("b")[0])
    again = made.guide(constraint)
    assert made._kept[constraint] is not kept
    assert ids("a")[0] in may(again)


def test_an_end_that_is_not_wanted_comes_where_nothing_else_can() -> None:
    guide = grammars().guide(Constraint.regex("a?"), may_end=False)
    assert may(guide) == {ids("a")[0]}
    assert may(grammars().guide(Constraint.regex("a?"))) == {END, ids("a")[0]}


def test_a_tokenizer_that_falls_back_to_bytes_is_held_too() -> None:
    tokenizer = falling_back()
    made = Grammars(tokenizer, size=300, end_ids=(1,))
    guide = made.guide(Constraint.regex('\\{"é":ab\\}'))
    said = b""
    while not guide.done:
        guide.fill()
        bits = np.unpackbits(guide.mask().view(np.uint8), count=300, bitorder="little")
        token = int(np.flatnonzero(bits)[-1])
        guide.accept(token)
        said += tokenizer.decoder.decode([tokenizer.id_to_token(token)]).encode("latin1", "ignore")
    assert made.guide(Constraint.regex(" a")).forced()
