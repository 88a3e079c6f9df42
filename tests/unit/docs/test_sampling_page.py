"""docs/sampling.md has every parameter by the names of each door, and the bounds of the code."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path

import pytest

from nsedge.api import SamplerStep, Sampling, sampling, steps
from nsedge.api.flat_steps import FLAT_NAMES, LETTERS
from nsedge.cli.sampling import add_flags
from nsedge.web.sampling_fields import SAME, SamplingFields

PAGE = (Path(__file__).parents[3] / "docs" / "sampling.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([^`]+)`", PAGE))
OF_OTHER_PAGES = {"logprobs", "prompt_logprobs", "n", "best_of", "chunk"}
"""What an answer tells, how many there are, and how a stream is cut."""


def test_every_parameter_is_there() -> None:
    names = {field.name for field in dataclasses.fields(Sampling)} - OF_OTHER_PAGES
    grouped = {name.split(".")[0] for name in FLAT_NAMES}
    begun = {name.split(".")[0] for name in NAMED}
    assert names - grouped <= NAMED
    assert grouped <= begun
    for name in FLAT_NAMES:
        assert {name, f".{name.split('.')[1]}"} & NAMED, name


def test_every_name_of_http_bodies_is_there() -> None:
    own = {field.name for field in dataclasses.fields(Sampling)} | set(FLAT_NAMES.values())
    others = {name for pair in SAME for name in pair}
    wanted = (own | others) & set(SamplingFields.__struct_fields__)
    assert len(wanted) > 40
    assert wanted - OF_OTHER_PAGES <= NAMED


def test_every_flag_is_there() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_flags(parser)
    flags = {flag for action in parser._actions for flag in action.option_strings}
    named = {name.split()[0] for name in NAMED}
    assert flags - {f"--{name}" for name in OF_OTHER_PAGES} <= named


def test_every_step_and_letter_is_there() -> None:
    assert {step.value for step in SamplerStep} | set(LETTERS) <= NAMED
    order = re.search(r"another order of (.*?):", PAGE, re.DOTALL)
    assert order is not None
    assert tuple(re.findall(r"`(\w+)`", order[1])) == steps.DEFAULT_ORDER


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("-100 to 100, at most {}", sampling.MAX_LOGIT_BIAS),
        ("at most {} each", sampling.MAX_TOKEN_LIST),
        ("at most {} texts of 1 to", sampling.MAX_BAD_WORDS),
        ("at most {} texts, 256 tokens", sampling.MAX_STOP_STRINGS),
        ("texts, {} tokens", sampling.MAX_STOP_TOKENS),
    ],
)
def test_bounds_are_those_of_the_code(text: str, number: int) -> None:
    assert text.format(f"{number:,}") in PAGE


def test_ranges_are_those_of_the_code() -> None:
    rows = {
        row.split("|")[1].strip(): row.split("|")[2].strip()
        for row in PAGE.partition("## Parameters")[2].partition("## Names")[0].splitlines()
        if row.startswith("| `")
    }
    for name, (low, high) in sampling.BOUNDS.items():
        told = rows.get(f"`{name}`")
        if told is None or name == "seed":
            continue
        wanted = f"{low:g} on" if high > 1e6 else f"{low:g} to {high:g}"
        assert told.startswith(wanted), name
