"""Where the code of a model is to be had, from what its folder says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporters.model.environment import unknown_architecture
from exporters.model.source import Source

UNKNOWN = "transformers {} does not know this architecture (ministral3)"
EXTRA = ": install the extra exporters-next in an environment of its own"


@pytest.mark.parametrize(
    ("installed", "saved", "rest"),
    [
        ("4.57.6", "5.2.0", f", which was saved with 5.2.0{EXTRA}"),
        ("4.57.6", "5.0.0.dev0", f", which was saved with 5.0.0.dev0{EXTRA}"),
        ("4.57.6", "4.57.1", f"; transformers 5 may{EXTRA}"),
        ("4.57.6", None, f"; transformers 5 may{EXTRA}"),
        ("4.57.6", ["5"], f"; transformers 5 may{EXTRA}"),
        ("5.24.0", "5.30.0", "; a newer release may"),
    ],
)
def test_a_model_without_code_says_where_there_is_some(
    installed: str, saved: object, rest: str, tmp_path: Path
) -> None:
    config = {"model_type": "ministral3", "transformers_version": saved}
    (tmp_path / "config.json").write_text(json.dumps(config))
    refusal = unknown_architecture(Source(folder=tmp_path, origin="one"), installed)
    assert str(refusal) == UNKNOWN.format(installed) + rest


def test_a_model_that_does_not_say_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    refusal = unknown_architecture(Source(folder=tmp_path, origin="one"), "4.57.6")
    assert str(refusal).endswith("config.json: no model_type; which architecture is it?")
