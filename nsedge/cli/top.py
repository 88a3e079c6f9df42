"""`nsedge top`: what the core is doing, as it does it."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator

from nsedge.api import Histogram, ModelInfo, ModelState, ModelStats, Stats
from nsedge.cli import output
from nsedge.config.reader import Loaded
from nsedge.errors import NsedgeError
from nsedge.ipc import reach
from nsedge.ipc.client import Client
from nsedge.process import console

HEADS = (
    "MODEL",
    "KIND",
    "STATE",
    "RUN",
    "WAIT",
    "KV",
    "TOK/S",
    "READ/S",
    "REUSED",
    "FIRST p50",
    "p95 ms",
    "TOKEN p50",
    "p95 ms",
    "STEP ms",
    "BESIDE",
    "MEMORY",
)
_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _TO_END_OF_LINE, _TO_END = "\x1b[H", "\x1b[K", "\x1b[J"


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Show the running core anew every interval, until q or Ctrl-C."""
    with reach.to_core(loaded.settings) as client:
        if options.once or options.json or not sys.stdout.isatty():
            _print(client, options)
        else:
            _follow(client, options.interval)
    return 0


def _print(client: Client, options: argparse.Namespace) -> None:
    """A view after another, for a pipe or a file."""
    before = client.stats()
    while True:
        time.sleep(options.interval)
        stats = client.stats()
        if options.json:
            output.say_json(stats)
        else:
            console.say(*view(before, stats, client.models()))
        if options.once:
            return
        before = stats


def _follow(client: Client, interval_s: float) -> None:
    """One view in place of the one before."""
    before: Stats | None = None
    with _screen():
        while True:
            try:
                stats = client.stats()
                lines = view(before, stats, client.models())
            except NsedgeError as error:
                stats, lines = None, [f"{error.message}; looking again"]
            size = shutil.get_terminal_size()
            fitting = [console.shown(line, sys.stdout) for line in lines[: size.lines - 1]]
            text = "".join(f"{line[: size.columns]}{_TO_END_OF_LINE}\n" for line in fitting)
            sys.stdout.write(f"{_HOME}{text}{_TO_END}")
            sys.stdout.flush()
            before = stats
            if _asked_to_leave(interval_s):
                return


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """The terminal's other screen, with keys as they are pressed, until the block is left."""
    keys = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    sys.stdout.write(_ENTER)
    try:
        if keys is not None:
            tty.setcbreak(sys.stdin)
        yield
    except KeyboardInterrupt:
        return
    finally:
        if keys is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, keys)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


def _asked_to_leave(within_s: float) -> bool:
    """Whether q is pressed `within_s`, or the terminal is gone."""
    if not sys.stdin.isatty():
        time.sleep(within_s)
        return False
    end_s = time.monotonic() + within_s
    while (left_s := end_s - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left_s)[0]:
            pressed = os.read(sys.stdin.fileno(), 64)
            if not pressed or b"q" in pressed.lower():
                return True
    return False


def view(before: Stats | None, now: Stats, models: tuple[ModelInfo, ...]) -> list[str]:
    """The lines of a view: rates and percentiles of what came after `before`."""
    if before is not None and before.uptime_s > now.uptime_s:
        before = None  # the core started anew
    span_s = 0.0 if before is None else now.uptime_s - before.uptime_s
    earlier = {} if before is None else before.models
    here = [one for one in models if one.state is not ModelState.ABSENT or one.name in now.models]
    rows = [_row(one, now.models.get(one.name), earlier.get(one.name), span_s) for one in here]
    asleep = len(models) - len(here)
    return [
        _first_line(before, now),
        *_memory_line(now),
        "",
        *output.table(HEADS, rows),
        *([f"and {asleep} on disk"] if asleep else []),
        *_failure_line(now),
    ]


def _first_line(before: Stats | None, now: Stats) -> str:
    parts = [
        f"up {_duration(now.uptime_s)}",
        f"{output.bytes_text(now.rss_bytes)} resident",
        f"{now.requests_accepted} requests",
    ]
    if now.loop_lag is not None:
        lag = now.loop_lag.since(None if before is None else before.loop_lag)
        parts.append(f"event loop p99 {_ms(lag.quantile(0.99))} ms late")
    return "nsedge · " + " · ".join(parts)


def _memory_line(now: Stats) -> list[str]:
    held = now.residency
    if held is None:
        return []
    used, budget = output.bytes_text(held.used_bytes), held.budget_bytes
    of = "" if budget is None else f" of {output.bytes_text(budget)}"
    share = "" if not budget else f" {_bar(held.used_bytes / budget)}"
    return [
        f"memory {used}{of}{share} · {held.loads} loads, {held.load_failures} failed,"
        f" {held.evictions} evicted, {held.idle_unloads} idle"
    ]


def _failure_line(now: Stats) -> list[str]:
    if not now.failures:
        return []
    most = sorted(now.failures.items(), key=lambda one: -one[1])
    return ["", "failed: " + ", ".join(f"{count} {code}" for code, count in most)]


def _row(
    info: ModelInfo, now: ModelStats | None, before: ModelStats | None, span_s: float
) -> tuple[object, ...]:
    state = info.state.value
    if info.progress is not None:
        state += f" {info.progress:.0%}"
    if now is None:
        return (info.name, info.kind, state, *["-"] * (len(HEADS) - 3))
    if before is not None and before.steps > now.steps:
        before = None  # loaded anew meanwhile
    queries = now.prefix_query_tokens - (before.prefix_query_tokens if before else 0)
    hits = now.prefix_hit_tokens - (before.prefix_hit_tokens if before else 0)
    return (
        info.name,
        info.kind,
        state,
        f"{now.running}/{now.slots}",
        now.waiting,
        f"{now.kv_tokens_used / now.kv_tokens_capacity:.0%}" if now.kv_tokens_capacity else "-",
        _rate(now.completion_tokens, before.completion_tokens if before else 0, span_s),
        _rate(now.prompt_tokens, before.prompt_tokens if before else 0, span_s),
        f"{hits / queries:.0%}" if queries else "-",
        *_times(now, before),
        _beside(now, before, span_s),
        _memory(now),
    )


def _beside(now: ModelStats, before: ModelStats | None, span_s: float) -> str:
    """Inputs that a model takes a second beside tokens, and seconds of sound."""
    told = (
        (now.texts, before.texts if before else 0, "texts/s"),
        (now.images, before.images if before else 0, "pictures/s"),
        (now.audio_s, before.audio_s if before else 0.0, "x sound"),
    )
    if span_s <= 0:
        return "-"
    parts = (f"{_rate(done, then, span_s)} {unit}" for done, then, unit in told if done)
    return ", ".join(parts) or "-"


def _times(now: ModelStats, before: ModelStats | None) -> tuple[str, ...]:
    if now.times is None:
        return ("-",) * 5
    then = None if before is None else before.times
    first, token, step = now.times.first_token, now.times.inter_token, now.times.step
    if then is not None:
        first = first.since(then.first_token)
        token = token.since(then.inter_token)
        step = step.since(then.step)
    return (*_middle_and_tail(first), *_middle_and_tail(token), _ms(step.mean_s))


def _middle_and_tail(seen: Histogram) -> tuple[str, str]:
    return _ms(seen.quantile(0.5)), _ms(seen.quantile(0.95))


def _memory(now: ModelStats) -> str:
    held = now.memory
    if held is None:
        return "-"
    all_bytes = held.weights_bytes + held.kv_bytes + held.arena_bytes + held.device_bytes
    return output.bytes_text(all_bytes)


def _rate(now: float, before: float, span_s: float) -> str:
    return f"{(now - before) / span_s:.1f}" if span_s > 0 else "-"


def _ms(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds * 1e3:.3g}"


def _bar(share: float, width: int = 20) -> str:
    full = round(min(1.0, max(0.0, share)) * width)
    return f"[{'#' * full}{'.' * (width - full)}]"


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
