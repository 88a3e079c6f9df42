"""Charts are well-formed SVG with a bar a value; tables come from the result alone."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from bench.charts import charts, tables, titled
from bench.demands import Bound, Demand, Roles, demands
from bench.lab import disturbed, line_of
from bench.svg import COLOURS, Series, bars, ceiling
from bench.tables import aligned, markdown

SVG = "{http://www.w3.org/2000/svg}"


def bars_of(text: str, colour: str) -> list[ET.Element]:
    """Drawn bars of one series: rectangles but the legend's square."""
    found = [r for r in ET.fromstring(text).iter(f"{SVG}rect") if r.get("fill") == colour]
    return [rect for rect in found if rect.get("width") != "10"]


def test_a_bar_is_as_high_as_its_value() -> None:
    text = bars("speed", ["1", "8"], [Series("a & b", [50.0, 100.0]), Series("c", [None, 25.0])])
    low, high = (float(rect.get("height", "0")) for rect in bars_of(text, COLOURS[0]))
    (only,) = bars_of(text, COLOURS[1])
    assert high == pytest.approx(2 * low)
    assert float(only.get("height", "0")) == pytest.approx(high / 4)
    assert "a &amp; b" in text


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="speed"):
        bars("speed", ["1"], [Series("a", [None])])
    with pytest.raises(ValueError, match="2 groups"):
        bars("speed", ["1", "2"], [Series("a", [1.0])])


@pytest.mark.parametrize(
    ("value", "top"), [(0.7, 1.0), (1.0, 1.0), (130.0, 200.0), (201.0, 250.0), (480.0, 500.0)]
)
def test_the_axis_ends_at_a_round_number(value: float, top: float) -> None:
    assert ceiling(value) == pytest.approx(top)


def cell(contender: str, streams: int, median: float) -> dict[str, Any]:
    return {
        "scenario": "streams",
        "contender": contender,
        "streams": streams,
        "prompt_tokens": 100,
        "tokens_per_s": {"median": median, "rounds": [median]},
        "first_token_s": {"p50": 0.1, "p95": 0.2, "p99": 0.25},
        "between_s": {"p50": 0.01, "p95": 0.02, "p99": 0.03},
        "others_cores": [0.0],
        "kept_rounds": [0],
    }


def result() -> dict[str, Any]:
    cells = [cell("us SSE", 8, 250.0), cell("them SSE", 8, 100.0), cell("us SSE", 1, 60.0)]
    found = {
        "cells": cells,
        "roles": {"ours": "us", "peer": "them", "engine_peer": "them"},
        "beside": {},
        "fidelity": {"us": {"positions": 9, "kl": 0.0071, "top1": 0.953}},
    }
    loaded: dict[str, Any] = json.loads(json.dumps(found))
    return loaded


def test_charts_show_what_was_measured_and_nothing_else() -> None:
    found = charts(result())
    assert set(found) == {"throughput.svg", "first-token.svg"}
    texts = [t.text for t in ET.fromstring(found["throughput.svg"]).iter(f"{SVG}text")]
    assert "1 streams" in texts
    assert texts.index("1 streams") < texts.index("8 streams")
    assert len(bars_of(found["throughput.svg"], COLOURS[1])) == 1


def test_tables_survive_the_file() -> None:
    text = titled(tables(result()))
    assert "| throughput over SSE, 8 streams | ≥ 2.5 × | 250 | 100 | 2.5 | yes |" in text
    assert "| us | 0.0071 | 0.953 |" in text
    assert (
        "| contender | 8 | 1 |\n| --- | --- | --- |\n| us SSE | 250 | 60 |\n| them SSE | 100 |  |"
        in text
    )
    assert "| them SSE | 100 / 200 |  |" in text
    assert "| them SSE | 10 / 30 |  |" in text
    assert "filled" not in text


def test_memory_is_told_as_what_cannot_be_taken_back_and_what_was_resident() -> None:
    def held(contender: str, **mib: float) -> dict[str, Any]:
        sizes = {f"{key}_mib": {"median": value, "rounds": [value]} for key, value in mib.items()}
        where = {"scenario": "memory", "contender": contender, "slots": 16, "context": 1024}
        return where | sizes

    cells = [
        held("us", private_dirty=181.0, anonymous=180.0, rss=240.0, peak=270.0),
        held("them", private_dirty=150.0, anonymous=149.0, rss=520.0, peak=567.0),
    ]
    found = result() | {"cells": cells}
    assert "| us | 181 | 180 | 240 | 270 |" in tables(found)["servers"]
    chart = charts(found)["memory.svg"]
    texts = [t.text for t in ET.fromstring(chart).iter(f"{SVG}text")]
    assert {"private dirty", "anonymous", "RSS", "peak RSS"} <= set(texts)
    roles = Roles(ours="us", peer="them", engine_peer="")
    demanded = {d.what: d for d in demands(cells, roles, {})}
    where = "16 slots of 1,024 tokens, both our processes"
    assert demanded[f"{where}, private dirty"].reached is False
    assert demanded[f"{where}, peak RSS"].reached is True
    assert demanded["engine in process, private dirty"].reached is None


def test_a_demand_is_written_as_it_is_read() -> None:
    assert Demand(what="x", bound=Bound("≥"), limit=1.0, unit="×", value=1.0).reached is True


def test_tables_are_aligned_or_markdown() -> None:
    assert aligned(("a", "bb"), [("ccc", "d")]) == "a    bb\nccc  d"
    assert markdown(("a", "b"), [("c", "d")]) == "| a | b |\n| --- | --- |\n| c | d |"


def test_a_row_of_disturbed_rounds_is_known_as_such() -> None:
    noisy = cell("us", 8, 250.0) | {"others_cores": [0.9, 0.0, 0.1]}
    assert disturbed(noisy | {"kept_rounds": [0, 1]}) is True
    assert disturbed(noisy | {"kept_rounds": [1, 2]}) is False


def test_a_cell_is_told_in_a_line() -> None:
    line = line_of(cell("us", 8, 250.0))
    assert line.startswith("us ")
    assert "tokens_per_s 250" in line
    assert "first_token 100/200/250 ms" in line
    assert "kept_rounds" not in line
