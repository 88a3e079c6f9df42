"""The charts and tables of a result of `bench.compare`.

python -m bench.charts RESULT.json --charts docs/charts      write the charts as SVG
python -m bench.charts RESULT.json --tables                  print the tables as Markdown

`bench.pages` writes the same tables into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.demands import HEAD, Demand, Roles, demands, rows
from bench.svg import Series, bars
from bench.tables import markdown

Cell = Mapping[str, Any]
SHORT_PROMPT = 100
SIZES = {
    "private_dirty_mib": "private dirty",
    "anonymous_mib": "anonymous",
    "rss_mib": "RSS",
    "peak_mib": "peak RSS",
}
"""Memory that cannot be taken back from a process, resident memory, and its greatest amount."""
TIMES = {"ready_seconds": "READY", "http_seconds": "HTTP"}


def charts(result: Mapping[str, Any]) -> dict[str, str]:
    """SVG by file name, of those scenarios that the result has."""
    streams = [c for c in result["cells"] if c["scenario"] == "streams"]
    short = [cell for cell in streams if cell["prompt_tokens"] == SHORT_PROMPT]
    decode = [cell for cell in result["cells"] if cell["scenario"] == "decode"]
    found = {
        "throughput.svg": _chart(
            "tokens/s, prompts of 100 tokens, 64 new, prefill included",
            short,
            "streams",
            _rate,
        ),
        "first-token.svg": _chart(
            "time to first token, p95, seconds, prompts of 100 tokens", short, "streams", _first
        ),
        "decode.svg": _chart("in process: decode alone, tokens/s", decode, "rows", _rate),
        "memory.svg": _memory_chart([c for c in result["cells"] if c["scenario"] == "memory"]),
    }
    return {name: text for name, text in found.items() if text is not None}


def _chart(
    title: str, cells: Sequence[Cell], key: str, value: Callable[[Cell], float]
) -> str | None:
    if not cells:
        return None
    groups = sorted({cell[key] for cell in cells})
    found = {(cell["contender"], cell[key]): value(cell) for cell in cells}
    series = [
        Series(name, [found.get((name, group)) for group in groups])
        for name in dict.fromkeys(cell["contender"] for cell in cells)
    ]
    return bars(title, [f"{group} {key}" for group in groups], series)


def _memory_chart(cells: Sequence[Cell]) -> str | None:
    sizes = [size for size in SIZES if all(size in cell for cell in cells)]
    if not cells or not sizes:
        return None
    series = [Series(cell["contender"], [cell[size]["median"] for size in sizes]) for cell in cells]
    names = [SIZES[size] for size in sizes]
    return bars("memory of servers, MiB, 16 slots of 1,024 tokens filled", names, series)


def _rate(cell: Cell) -> float:
    return float(cell["tokens_per_s"]["median"])


def _first(cell: Cell) -> float:
    return float(cell["first_token_s"]["p95"])


TITLES = {
    "demands": "Demands",
    "fidelity": "Fidelity",
    "rates": "Tokens/s, prompts and 64 new tokens, by streams and the tokens of their prompts",
    "first": "Time to first token, p50 and p95, ms",
    "between": "Between tokens, p50 and p99, ms",
    "arrivals": "Between tokens while 900-token prompts arrive",
    "prefixes": "First token after a prefix of 900 tokens",
    "bare": "The daemon beside the bare engine, 16 streams, tokens/s",
    "servers": "Servers with 16 slots of 1,024 tokens filled, MiB; from exec until ready, s",
    "engines": "In process: tokens/s of decode, by rows, and of prefill; MiB with 16 rows filled",
}


def tables(result: Mapping[str, Any]) -> dict[str, str]:
    """By the keys of TITLES: every table as Markdown, empty where nothing of it was measured."""
    of = _by_scenario(result["cells"])
    streams = of("streams")
    return {
        "demands": markdown(HEAD, rows(demands_of(result))),
        "fidelity": _fidelity(result["fidelity"]),
        "rates": _beside([_column(_load(cell), cell, _number(_rate(cell))) for cell in streams]),
        "first": _beside(
            [_column(_load(c), c, _ms(c["first_token_s"], "p50", "p95")) for c in streams]
        ),
        "between": _beside(
            [_column(_load(c), c, _ms(c["between_s"], "p50", "p99")) for c in streams]
        ),
        "arrivals": _arrivals(of("arrivals")),
        "prefixes": _prefixes(of("prefixes")),
        "bare": _beside([_column("tokens/s", cell, _number(_rate(cell))) for cell in of("bare")]),
        "servers": _beside([*_medians(of("memory")), *_medians(of("readiness"))]),
        "engines": _beside(
            [
                *(_column(f"{c['rows']} rows", c, _number(_rate(c))) for c in of("decode")),
                *(_column("prefill", c, _number(_rate(c))) for c in of("prefill")),
                *_medians(of("engine-memory")),
            ]
        ),
    }


def titled(found: Mapping[str, str]) -> str:
    """Those tables that hold anything, each under a line that says what it shows."""
    return "\n\n".join(f"{TITLES[name]}:\n\n{table}" for name, table in found.items() if table)


def _by_scenario(cells: Iterable[Cell]) -> Callable[[str], list[Cell]]:
    kept = list(cells)
    return lambda scenario: [cell for cell in kept if cell["scenario"] == scenario]


def demands_of(result: Mapping[str, Any]) -> list[Demand]:
    """The demands as they are now, each with the figure that the result has for it."""
    return demands(result["cells"], Roles(**result["roles"]), result["beside"])


def _fidelity(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    lines = [(name, f"{f['kl']:.4f}", f"{f['top1']:.3f}") for name, f in found.items()]
    return markdown(("weights", "mean KL, nats", "top-1"), lines)


Entry = tuple[str, str, str]
"""A column, a contender, and what stands where they meet."""


def _column(name: str, cell: Cell, text: str) -> Entry:
    return name, cell["contender"], text


def _beside(entries: Sequence[Entry]) -> str:
    """Contenders under each other, what was measured of them beside each other."""
    names = list(dict.fromkeys(name for name, _, _ in entries))
    contenders = dict.fromkeys(contender for _, contender, _ in entries)
    found = {(name, contender): text for name, contender, text in entries}
    lines = [(one, *(found.get((name, one), "") for name in names)) for one in contenders]
    return markdown(("contender", *names), lines) if lines else ""


def _load(cell: Cell) -> str:
    streams, tokens = cell["streams"], cell["prompt_tokens"]
    return f"{streams}" if tokens == SHORT_PROMPT else f"{streams} of {tokens}"


def _medians(cells: Sequence[Cell]) -> list[Entry]:
    """The measurements of memory and of starts, in the order of SIZES and TIMES."""
    return [
        _column(name, cell, _number(cell[key]["median"]))
        for key, name in {**SIZES, **TIMES}.items()
        for cell in cells
        if key in cell
    ]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _arrivals(cells: Sequence[Cell]) -> str:
    head = ("contender", "quiet p50 / p95 / p99, ms", "disturbed, ms", "their first token, ms")
    keys = ("quiet_s", "disturbed_s", "first_token_s")
    lines = [(cell["contender"], *(_ms(cell[key]) for key in keys)) for cell in cells]
    return markdown(head, lines) if lines else ""


def _prefixes(cells: Sequence[Cell]) -> str:
    head = ("contender", "cold p50 / p95 / p99, ms", "shared prompt, ms", "growing chat, ms")
    keys = ("cold_s", "shared_s", "growing_s")
    lines = [(cell["contender"], *(_ms(cell[key]) for key in keys)) for cell in cells]
    return markdown(head, lines) if lines else ""


def _ms(marks: Mapping[str, float], *names: str) -> str:
    return " / ".join(f"{marks[name] * 1e3:.0f}" for name in names or marks)


def main() -> None:
    """Write or print."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("result", type=Path, help="JSON of bench.compare")
    made.add_argument("--charts", type=Path, help="write the charts into this folder")
    made.add_argument("--tables", action="store_true", help="print the tables")
    options = made.parse_args()
    result = json.loads(options.result.read_text(encoding="utf-8"))
    if options.charts:
        options.charts.mkdir(parents=True, exist_ok=True)
        for name, text in charts(result).items():
            (options.charts / name).write_text(text, encoding="utf-8")
    if options.tables:
        print(titled(tables(result)))


if __name__ == "__main__":
    main()
