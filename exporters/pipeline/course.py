"""The stages of a plan, one after the other, and what came of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from exporters.answer import FAILURE, SUCCESS, Answer
from exporters.cache import Cache
from exporters.errors import ExportError
from exporters.pipeline.plan import Planned
from nsedge.errors import NsedgeError

UNTOUCHED = {"up_to_date": True, "made": False, "changed": False}
"""Each alone, in what a command tells programs, says that there was nothing to do."""


class State(StrEnum):
    """How a stage ended."""

    DONE = "done"
    UP_TO_DATE = "up to date"
    FAILED = "failed"
    NOT_RUN = "not run"
    PASSED_OVER = "passed over"
    """It stands before the stage to begin from."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A stage, how it ended, and what it told: `result` for programs."""

    stage: str
    state: State
    seconds: float = 0.0
    result: dict[str, Any] | None = None
    error: str | None = None


def run_plan(
    plan: Sequence[Planned],
    cache: Cache,
    *,
    begin: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Answer:
    """Run the stages from `begin` on, up to the first that fails.

    Raises:
        ExportError: the plan has no stage `begin`.
    """
    names = [planned.name for planned in plan]
    if begin is not None and begin not in names:
        raise ExportError(f"--from {begin}: the recipe has {', '.join(names)}")
    first = names.index(begin) if begin else 0
    ended = [Ended(stage=name, state=State.PASSED_OVER) for name in names[:first]]
    for place, planned in enumerate(plan[first:], first + 1):
        if ended and ended[-1].state in (State.FAILED, State.NOT_RUN):
            ended.append(Ended(stage=planned.name, state=State.NOT_RUN))
            continue
        cache.progress.note(f"[{place}/{len(plan)}] {planned.name}")
        ended.append(_run_stage(planned, cache, clock))
    failed = next((each for each in ended if each.state is State.FAILED), None)
    result: dict[str, Any] = {"stages": msgspec.to_builtins(ended)}
    if failed is not None:
        result = {"error": _told(failed), "failed": failed.stage, **result}
    return result, course_lines(ended), SUCCESS if failed is None else FAILURE


def _run_stage(planned: Planned, cache: Cache, clock: Callable[[], float]) -> Ended:
    start_s = clock()
    result: dict[str, Any] | None = None
    error: str | None = None
    state = State.FAILED
    try:
        result, lines, status = planned.arguments.run(planned.arguments, cache)
    except (ExportError, NsedgeError, OSError) as raised:
        error = " ".join(str(raised).split())
        cache.progress.note(f"{planned.name}: {error}")
    else:
        for line in lines:
            cache.progress.note(line)
        if status == SUCCESS:
            untouched = any(result.get(key) is value for key, value in UNTOUCHED.items())
            state = State.UP_TO_DATE if untouched else State.DONE
    return Ended(
        stage=planned.name, state=state, seconds=clock() - start_s, result=result, error=error
    )


def course_lines(ended: Sequence[Ended]) -> list[str]:
    """A table of the stages, and the failure if there was one."""
    lines = [f"{'stage':<10}{'time':>9}  state"]
    for each in ended:
        ran = each.state not in (State.NOT_RUN, State.PASSED_OVER)
        took = f"{each.seconds:.1f} s" if ran else "-"
        lines.append(f"{each.stage:<10}{took:>9}  {each.state}")
    return lines + [_told(each) for each in ended if each.state is State.FAILED]


def _told(failed: Ended) -> str:
    reason = failed.error or "what it found is told above"
    return f"stage {failed.stage} failed: {reason}"
