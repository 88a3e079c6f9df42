"""The pages claim what the results hold."""

from __future__ import annotations

import copy
import re

import pytest

from bench.charts import charts
from bench.pages import PAGES, PARTS, UnknownPart, claim, filled, prose, read_results
from bench.peers.process import ROOT

FIGURE = re.compile(
    r"\d(?:[\d.,]*\d)?\s*(?:tokens/s|ms|µs|s|MiB|MB|GiB|GB|GB/s|nats|×|%|percent|times|fold)(?![\w-])"
)
"""A number with the unit of something measured."""


@pytest.mark.parametrize("name", PAGES)
def test_every_marked_figure_is_from_the_results(name: str) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    assert "<!-- figures: " in page
    assert page == filled(page, read_results()), "write them anew: python -m bench.pages"


@pytest.mark.parametrize("name", PAGES[:2])
def test_no_figure_stands_beside_those_of_the_results(name: str) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    assert [found[0] for found in FIGURE.finditer(prose(page))] == []


def test_the_charts_are_drawn_from_the_results() -> None:
    for name, text in charts(read_results()["compare"]).items():
        assert (ROOT / "docs" / "charts" / name).read_text(encoding="utf-8") == text, name


def test_another_result_is_another_claim() -> None:
    results = read_results()
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    slower = copy.deepcopy(results)
    ours = results["compare"]["roles"]["ours"]
    for cell in slower["compare"]["cells"]:
        if cell["scenario"] == "streams" and cell["contender"].startswith(ours):
            cell["tokens_per_s"]["rounds"] = [rate / 2 for rate in cell["tokens_per_s"]["rounds"]]
    assert filled(page, slower) != page
    farther = copy.deepcopy(results)
    farther["compare"]["fidelity"][ours]["kl"] = 0.02
    assert "not as near to fp32 (mean KL 0.0200 nats" in claim(farther).replace("\n", " ")


def test_memory_is_claimed_once_it_was_measured() -> None:
    results = copy.deepcopy(read_results())
    for cell in results["compare"]["cells"]:
        if cell["scenario"] == "memory":
            ours = cell["contender"] == results["compare"]["roles"]["ours"]
            cell["private_dirty_mib"] = {"median": 381.6 if ours else 412.3}
    told = claim(results).replace("\n", " ")
    assert "it holds 382 MiB that the kernel cannot take back, llama-server Q8_0 412." in told


def test_a_mark_that_names_no_figures_is_refused() -> None:
    with pytest.raises(UnknownPart, match="figures: nothing is none of claim, "):
        filled("<!-- figures: nothing -->\n<!-- end -->", {})


def test_every_kind_of_figures_stands_on_a_page() -> None:
    pages = "".join((ROOT / name).read_text(encoding="utf-8") for name in PAGES)
    assert {name for name in PARTS if f"<!-- figures: {name} -->" not in pages} == set()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("it is 2.1 times as fast", ["2.1 times"]),
        ("READY in 0.75 s, 382 MiB, 12 %", ["0.75 s", "382 MiB", "12 %"]),
        ("16 slots of 1,024 tokens, `--rounds 5`, int8-b64", []),
        ("```sh\nsleep 5 s\n```\n<!-- figures: claim -->\n3 ms\n<!-- end -->\n", []),
    ],
)
def test_a_figure_is_known_by_its_unit(line: str, found: list[str]) -> None:
    assert [figure[0] for figure in FIGURE.finditer(prose(line))] == found
