"""What an answer must look like, as flags say it."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from nsedge.api import Constraint
from nsedge.cli.constraining import add_flags, constraint_of
from nsedge.errors import InvalidParameter


def said(*flags: str) -> Constraint | None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser)
    return constraint_of(parser.parse_args(flags))


def test_flags_say_each_kind(tmp_path: Path) -> None:
    schema, lark, gbnf = (tmp_path / name for name in ("s.json", "g.lark", "g.gbnf"))
    schema.write_text('{"type": "integer"}')
    lark.write_text('start: "a"')
    gbnf.write_text('root ::= "a"')
    assert said() is None
    assert said("--json-schema", str(schema)) == Constraint.json_schema('{"type": "integer"}')
    assert said("--json-object") == Constraint.json_object()
    assert said("--regex", "a+") == Constraint.regex("a+")
    assert said("--choice", "a", "--choice", "b") == Constraint.choice(["a", "b"])
    assert said("--grammar", str(lark)) == Constraint.lark('start: "a"')
    assert said("--grammar", str(gbnf)) == Constraint.gbnf('root ::= "a"')


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--json-schema", "{tmp}/none.json"), "--json-schema {tmp}/none.json: "),
        (("--json-schema", "{tmp}/bad.json"), "is not JSON"),
        (("--grammar", "{tmp}/latin"), "--grammar {tmp}/latin: "),
        (("--choice", ""), "must be a text that is not empty"),
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, flags: tuple[str, ...], told: str) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "latin").write_bytes(b"\xe9")
    with pytest.raises(InvalidParameter) as caught:
        said(*(flag.format(tmp=tmp_path) for flag in flags))
    assert told.format(tmp=tmp_path) in caught.value.message


def test_two_at_once_are_refused() -> None:
    with pytest.raises(argparse.ArgumentError, match="not allowed with"):
        said("--json-object", "--regex", "a")
