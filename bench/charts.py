"""The charts and tables of docs/performance.md, from a result of `bench.compare`.

python -m bench.charts RESULT.json --charts docs/charts      write the charts as SVG
python -m bench.charts RESULT.json --tables                  print the tables as Markdown
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.demands import HEAD, Bound, Demand, rows
from bench.svg import Series, bars
from bench.tables import markdown

Cell = Mapping[str, Any]
SIZES = ("private_dirty_mib", "anonymous_mib", "rss_mib", "peak_mib")
"""What cannot be taken back from a process, what was resident, and the most that ever was."""


def charts(result: Mapping[str, Any]) -> dict[str, str]:
    """SVG by file name, of those scenarios that the result has."""
    streams = [c for c in result["cells"] if c["scenario"] == "streams"]
    short = [cell for cell in streams if cell["prompt_tokens"] == 100]
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
    names = [size.removesuffix("_mib").replace("_", " ") for size in sizes]
    return bars("memory of servers, MiB, 16 slots of 1,024 tokens filled", names, series)


def _rate(cell: Cell) -> float:
    return float(cell["tokens_per_s"]["median"])


def _first(cell: Cell) -> float:
    return float(cell["first_token_s"]["p95"])


def tables(result: Mapping[str, Any]) -> str:
    """Every table as Markdown, each under a line that says what it shows."""
    of = _by_scenario(result["cells"])
    parts = [
        ("Demands", markdown(HEAD, rows([_demand(entry) for entry in result["demands"]]))),
        ("Fidelity", _fidelity(result["fidelity"])),
        ("Streams", _streams(of("streams"))),
        ("The daemon beside the bare engine", _plain(of("bare"), ("streams",), ("tokens_per_s",))),
        ("Between tokens while 900-token prompts arrive", _arrivals(of("arrivals"))),
        ("First token after a prefix of 900 tokens", _prefixes(of("prefixes"))),
        ("Memory of servers, MiB", _plain(of("memory"), ("slots", "context"), SIZES)),
        ("Exec to ready, s", _plain(of("readiness"), (), ("ready_seconds", "http_seconds"))),
        ("In process, decode", _plain(of("decode"), ("rows",), ("tokens_per_s",))),
        ("In process, prefill", _plain(of("prefill"), ("prompt_tokens",), ("tokens_per_s",))),
        ("In process, memory, MiB", _plain(of("engine-memory"), ("rows",), SIZES)),
    ]
    return "\n\n".join(f"{title}:\n\n{table}" for title, table in parts if table)


def _by_scenario(cells: Iterable[Cell]) -> Callable[[str], list[Cell]]:
    kept = list(cells)
    return lambda scenario: [cell for cell in kept if cell["scenario"] == scenario]


def _demand(entry: Mapping[str, Any]) -> Demand:
    fields = {key: value for key, value in entry.items() if key != "reached"}
    return Demand(**{**fields, "bound": Bound(entry["bound"])})


def _fidelity(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    lines = [(name, f"{f['kl']:.4f}", f"{f['top1']:.3f}") for name, f in found.items()]
    return markdown(("weights", "mean KL, nats", "top-1"), lines)


def _streams(cells: Sequence[Cell]) -> str:
    if not cells:
        return ""
    head = ("prompt", "streams", "contender", "tokens/s", "first token p50 / p95 / p99, ms",
            "between p50 / p95 / p99, ms")  # fmt: skip
    lines = [
        (
            str(cell["prompt_tokens"]),
            str(cell["streams"]),
            cell["contender"],
            f"{cell['tokens_per_s']['median']:.1f}",
            _ms(cell["first_token_s"]),
            _ms(cell["between_s"]),
        )
        for cell in cells
    ]
    return markdown(head, lines)


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


def _plain(cells: Sequence[Cell], what: Sequence[str], figures: Sequence[str]) -> str:
    """The medians of `figures`, under the load `what`."""
    lines = [
        (
            cell["contender"],
            *(str(cell[key]) for key in what),
            *(f"{cell[key]['median']:.4g}" if key in cell else "" for key in figures),
        )
        for cell in cells
    ]
    return markdown(("contender", *what, *figures), lines) if lines else ""


def _ms(marks: Mapping[str, float]) -> str:
    return " / ".join(f"{seconds * 1e3:.0f}" for seconds in marks.values())


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
        print(tables(result))


if __name__ == "__main__":
    main()
