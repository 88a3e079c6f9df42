"""The figures of the README and of pages under docs/, out of the results that are checked in.

Each page marks what is written by this: `<!-- figures: NAME -->` up to `<!-- end -->`. A test holds
the pages to the results.

python -m bench.pages      write the figures anew
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.charts import SHORT_PROMPT, TITLES, demands_of, tables
from bench.demands import Roles
from bench.embed_page import embedding
from bench.mixed_page import mixed
from bench.peers.process import ROOT
from bench.peers.servers import SSE
from bench.report import PACKAGES
from bench.rounds import paired_ratio
from bench.speech_page import languages, speech
from bench.tables import markdown

PAGES = ("README.md", "docs/performance.md", "docs/decisions/performance.md", "docs/speech.md")
RESULTS = ROOT / "bench" / "results"
_PART = re.compile(r"(<!-- figures: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

Result = Mapping[str, Any]
Part = Callable[[Mapping[str, Result]], str]
"""Text out of all results, by the names of their files."""


class UnknownPart(ValueError):
    """A page marks figures that nothing here makes."""


def read_results(folder: Path = RESULTS) -> dict[str, Result]:
    """Every result, by its file's name."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


def filled(page: str, results: Mapping[str, Result]) -> str:
    """`page` with every marked part as the results have it.

    Raises:
        UnknownPart: a mark names none.
    """

    def written(found: re.Match[str]) -> str:
        if found[2] not in PARTS:
            raise UnknownPart(f"figures: {found[2]} is none of {', '.join(PARTS)}")
        return f"{found[1]}{PARTS[found[2]](results)}\n{found[3]}"

    return _PART.sub(written, page)


WIDEST = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
}
"""The names of a processor's widest instructions, widest first, by the system's flags."""


def prose(page: str) -> str:
    """`page` without marked parts and without code: what people have written."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", _PART.sub("", page), flags=re.DOTALL | re.MULTILINE)


def claim(results: Mapping[str, Result]) -> str:
    """The README's word on speed and memory, beside llama.cpp's server."""
    compare = results["compare"]
    roles, machine = Roles(**compare["roles"]), compare["machine"]
    ours, peer = (_rounds(compare, f"{name} {SSE}") for name in (roles.ours, roles.peer))
    both = sorted(set(ours) & set(peer))
    ratios = [paired_ratio(ours[count], peer[count]) for count in both]
    near = {name: compare["fidelity"][name]["kl"] for name in (roles.ours, roles.peer)}
    nearer = "nearer" if near[roles.ours] <= near[roles.peer] else "not as near"
    flags = machine["vector"]
    widest = next((name for flag, name in WIDEST.items() if flag in flags), "no vector units")
    return _wrapped(
        f"On {machine['cores']} cores with {widest} it serves the starter {min(ratios):.1f} to"
        f" {max(ratios):.1f} times as fast as {roles.peer} does, from {both[0]} stream to"
        f" {both[-1]} over HTTP, {nearer} to fp32 (mean KL {near[roles.ours]:.4f} nats against"
        f" {near[roles.peer]:.4f}).{_memory_claim(compare, roles)}"
    )


def _memory_claim(compare: Result, roles: Roles) -> str:
    cells = {c["contender"]: c for c in compare["cells"] if c["scenario"] == "memory"}
    held = [cells.get(name, {}).get("private_dirty_mib") for name in (roles.ours, roles.peer)]
    if None in held:
        return ""
    ours, peer = (round(one["median"]) for one in held if one is not None)
    cell = cells[roles.ours]
    return (
        f" With {cell['slots']} slots of {cell['context']:,} tokens filled it holds {ours} MiB that"
        f" the kernel cannot take back, {roles.peer} {peer}."
    )


def _rounds(compare: Result, contender: str) -> dict[int, list[float]]:
    """Tokens/s of each round, by the number of streams with short prompts."""
    return {
        cell["streams"]: cell["tokens_per_s"]["rounds"]
        for cell in compare["cells"]
        if cell["scenario"] == "streams"
        and cell["contender"] == contender
        and cell["prompt_tokens"] == SHORT_PROMPT
    }


def _machine(results: Mapping[str, Result]) -> str:
    compare = results["compare"]
    found, options = compare["machine"], compare["options"]
    versions = ", ".join(f"{name} {found[name]}" for name in PACKAGES)
    cpu = f"{found['cpu']} (family and model {found['family_model']})"
    vector = ", ".join(found["vector"]) or "no vector units"
    return _wrapped(
        f"Machine: {found['cores']} cores of an {cpu} with {vector},"
        f" {found['memory_gib']} GiB; Python {found['python']}, {versions}. Taken on"
        f" {compare['date'][:10]}, {options['rounds']} rounds."
    )


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _short(results: Mapping[str, Result]) -> str:
    """The demands that were not reached, and those that were not measured."""
    found = demands_of(results["compare"])
    lines = [
        f"- {one.what}: {one.value:.3g} {one.unit}, to be {one.bound} {one.limit:g}"
        for one in found
        if one.reached is False and one.value is not None
    ]
    lines += [f"- {one.what}: not measured" for one in found if one.reached is None]
    return "\n".join(lines) or "Nothing: every demand was reached."


def _schemes(results: Mapping[str, Result]) -> str:
    found = results["schemes"]["results"]
    rows = list(found[0]["decode_tokens_per_s"])
    head = ("variant", "MB", "KL, nats", "top-1", *(f"{count} rows" for count in rows), "prefill")
    lines = [
        (
            f"`{one['variant']}`",
            f"{one['bytes'] / 1e6:.0f}",
            f"{one['fidelity']['kl']:.4f}",
            f"{one['fidelity']['top1']:.3f}",
            *(f"{_median(one['decode_tokens_per_s'][count]):.0f}" for count in rows),
            f"{_median(one['prefill_tokens_per_s']):.0f}",
        )
        for one in found
    ]
    return markdown(head, lines)


def _median(figure: float | Mapping[str, float]) -> float:
    return figure["median"] if isinstance(figure, Mapping) else figure


def _contention(results: Mapping[str, Result]) -> str:
    lines = []
    for rows, ways in results["contention"]["rows"].items():
        for way, rounds in ways.items():
            phases = [f"{phase['halves'][-1]:.0f}" for phase in rounds[0]]
            lines.append((rows, way, *phases))
    phases = [phase["phase"] for phase in results["contention"]["rows"][lines[0][0]]["all"][0]]
    return markdown(("rows", "threads", *phases), lines)


def _queue(results: Mapping[str, Result]) -> str:
    queued, ratio = results["queue"]["queued"], results["queue"]["ratio"]
    (short, few), (long, many) = queued.items()
    lines = [
        (key.replace("_", " "), f"{few[key] * 1e6:.0f}", f"{many[key] * 1e6:.0f}",
         f"{ratio[key]:.2f}")
        for key in few
    ]  # fmt: skip
    return markdown(("µs", f"{short} queued", f"{int(long):,} queued", "ratio"), lines)


def _shape(results: Mapping[str, Result]) -> str:
    found = results["llama-1b-shape"]
    lines = [
        (
            streams,
            f"{one['tokens_per_s']:.1f}",
            f"{one['llama_tokens_per_s']:.1f}",
            f"{one['ratio']:.2f}",
        )
        for streams, one in found["decode"].items()
    ]
    return markdown(("streams", "ours, tokens/s", "llama.cpp, tokens/s", "ratio"), lines)


def _of_compare(name: str) -> Part:
    return lambda results: tables(results["compare"])[name]


PARTS: dict[str, Part] = {
    "claim": claim,
    "machine": _machine,
    "short": _short,
    "schemes": _schemes,
    "contention": _contention,
    "queue": _queue,
    "shape": _shape,
    "embed": lambda results: embedding(results["embed"]),
    "mixed": lambda results: mixed(results["mixed"]),
    "speech": lambda results: speech(results["speech"]),
    "speech-beams": lambda results: speech(results["speech-beams"]),
    "languages": lambda results: languages(results["languages"]),
    **{name: _of_compare(name) for name in TITLES},
}


def main() -> None:
    """Write the pages."""
    results = read_results()
    for name in PAGES:
        path = ROOT / name
        path.write_text(filled(path.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
