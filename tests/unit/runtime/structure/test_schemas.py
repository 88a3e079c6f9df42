"""Schemas of many kinds: whatever is written at random to one fits it, by another's judgement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsedge.api import Constraint
from nsedge.errors import InvalidParameter
from nsedge.runtime.structure.grammars import Grammars
from nsedge.runtime.structure.guide import Guide
from tests.unit.runtime.structure.vocabularies import END, SIZE, printable

jsonschema = pytest.importorskip("jsonschema")

TOKENIZER = printable()
GRAMMARS = Grammars(TOKENIZER, size=SIZE, end_ids=(END,))
MOST = 300
"""Tokens of an answer; one that has more is cut off."""
CLOSING = [TOKENIZER.token_to_id(text) for text in ('"', "}", "]", ",", ":")] + [END]


def read(name: str) -> Any:
    return json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


KINDS: list[dict[str, Any]] = read("schemas.json")
SUITE: list[dict[str, Any]] = read("suite.json")["kinds"]
"""Of the JSON schema organisation's own tests (suite.LICENSE)."""


def allowed(guide: Guide) -> np.ndarray:
    bits = np.unpackbits(guide.mask().view(np.uint8), count=SIZE, bitorder="little")
    return np.flatnonzero(bits)


def written(guide: Guide, seed: int) -> tuple[str, bool]:
    """What comes of random logits, and whether it is whole; what is forced is taken as it is."""
    rng, said = np.random.default_rng(seed), list[int]()
    weights = np.ones(SIZE)
    weights[CLOSING] = 8.0
    while len(said) < MOST:
        guide.fill()
        may = allowed(guide)
        token = int(rng.choice(may, p=weights[may] / weights[may].sum()))
        if token == END:
            return TOKENIZER.decode(said), True
        for one in (token, *forced_after(guide, token)):
            said.append(one)
        if guide.done:
            return TOKENIZER.decode(said), True
    return TOKENIZER.decode(said), False


def forced_after(guide: Guide, token: int) -> list[int]:
    guide.accept(token)
    taken: list[int] = []
    while tokens := guide.forced():
        for one in tokens:
            guide.accept(one)
        taken += tokens
    return taken


def fits(schema: Any, text: str) -> bool:
    """Whether the masks let `text` come, and end."""
    guide = GRAMMARS.guide(Constraint.json_schema(schema))
    for token in TOKENIZER.encode(text).ids:
        guide.fill()
        if token not in allowed(guide):
            return False
        guide.accept(token)
    guide.fill()
    return guide.done or END in allowed(guide)


def holds(kind: dict[str, Any], *, seeds: int) -> int:
    """Whether what fits may come, and nothing else; how many of the texts written at random were
    whole."""
    schema, whole = kind["schema"], 0
    validator = jsonschema.Draft202012Validator(schema)
    for value in kind["good"]:
        assert validator.is_valid(value), value
        assert fits(schema, json.dumps(value)), value
    for value in kind["bad"]:
        assert not fits(schema, json.dumps(value)), value
    for seed in range(seeds):
        text, is_whole = written(GRAMMARS.guide(Constraint.json_schema(schema)), seed)
        if is_whole:
            whole += 1
            validator.validate(json.loads(text))
    return whole


def refused(schema: dict[str, Any]) -> str:
    """What is told of a schema that cannot be compiled."""
    with pytest.raises(InvalidParameter) as caught:
        GRAMMARS.guide(Constraint.json_schema(schema))
    assert caught.value.param == "constraint"
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["name"])
def test_a_kind_of_schema(kind: dict[str, Any]) -> None:
    if "refused" in kind:
        assert kind["refused"] in refused(kind["schema"])
    else:
        assert holds(kind, seeds=10), "nothing was ever whole"


@pytest.mark.parametrize("kind", SUITE, ids=lambda kind: kind["name"])
def test_a_schema_of_the_suite(kind: dict[str, Any]) -> None:
    if "refused" in kind:
        assert kind["refused"] in refused(kind["schema"])
    else:
        holds(kind, seeds=2)


NAMES = st.text("abcdefgh_ ", min_size=1, max_size=6)


@st.composite
def bounded(draw: st.DrawFn, low: str, high: str, most: int) -> dict[str, int]:
    """A lower and an upper bound, one, or neither."""
    first, second = sorted(draw(st.tuples(st.integers(0, most), st.integers(0, most))))
    found = {low: first, high: second}
    return {name: found[name] for name in draw(st.sets(st.sampled_from([low, high])))}


FORMATS = {"uuid", "ipv4", "ipv6"}
LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": ["string", "null"], "maxLength": 5}),
    st.builds(lambda n: {"const": n}, st.one_of(st.integers(-99, 99), NAMES, st.none())),
    st.builds(lambda them: {"enum": them}, st.lists(NAMES, min_size=1, max_size=5, unique=True)),
    bounded("minimum", "maximum", 5000).map(lambda more: {"type": "integer"} | more),
    bounded("minimum", "maximum", 90).map(lambda more: {"type": "number"} | more),
    st.integers(2, 12).map(lambda n: {"type": "integer", "multipleOf": n}),
    bounded("minLength", "maxLength", 12).map(lambda more: {"type": "string"} | more),
    st.sampled_from(sorted(FORMATS)).map(lambda form: {"type": "string", "format": form}),
    st.sampled_from(["^[a-f]{2,6}$", "^(yes|no)$", "[0-9]+", "^x.*y$"]).map(
        lambda pattern: {"type": "string", "pattern": pattern}
    ),
)


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    @st.composite
    def array(draw: st.DrawFn) -> dict[str, Any]:
        bounds = draw(bounded("minItems", "maxItems", 4))
        return {"type": "array", "items": draw(inner)} | bounds

    @st.composite
    def tuples(draw: st.DrawFn) -> dict[str, Any]:
        first = draw(st.lists(inner, min_size=1, max_size=3))
        least = draw(st.integers(0, len(first)))
        rest = draw(st.sampled_from([False, {"type": "boolean"}]))
        return {"type": "array", "prefixItems": first, "minItems": least, "items": rest}

    @st.composite
    def record(draw: st.DrawFn) -> dict[str, Any]:
        properties = draw(st.dictionaries(NAMES, inner, max_size=4))
        names = sorted(properties)
        required = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
        made: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
        more = draw(st.sampled_from([False, True, {"type": "integer"}]))
        return made if more is True else made | {"additionalProperties": more}

    return st.one_of(
        array(),
        tuples(),
        record(),
        inner.map(lambda one: {"type": "object", "patternProperties": {"^k[0-9]$": one}}),
        st.lists(inner, min_size=1, max_size=3).map(lambda them: {"anyOf": them}),
    )


@settings(max_examples=120, deadline=None)
@given(schema=st.recursive(LEAVES, nested, max_leaves=8), seed=st.integers(0, 2**32))
def test_what_is_written_at_random_fits_or_is_cut_off(schema: dict[str, Any], seed: int) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    text, is_whole = written(GRAMMARS.guide(Constraint.json_schema(schema)), seed)
    if is_whole:
        checker = jsonschema.FormatChecker(sorted(FORMATS))
        validator = jsonschema.Draft202012Validator(schema, format_checker=checker)
        validator.validate(json.loads(text))
