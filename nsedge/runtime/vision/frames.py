"""Which frames of a film are looked at, and how their times are written; pure."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

from nsedge.errors import InvalidParameter

MOST = "engine.max_video_frames"
"""The setting that bounds them."""


def chosen(
    times: Sequence[float],
    end_s: float,
    *,
    fps: float | None,
    frames: int | None,
    most: int,
    usual: tuple[float, int],
) -> tuple[int, ...]:
    """The numbers of the frames that are looked at, in order.

    - times: seconds at which each frame begins to be shown, the first at 0; end_s: the last's end.
    - fps: the frame that is shown every 1 / fps seconds, from 0 on; frames: of these at most so
      many, evenly spread; without fps, so many of the whole film, the first and the last among
      them. Without either, `usual` says both.
    - most: that anybody may ask for.

    Raises:
        InvalidParameter: more than `most` are asked for.
    """
    if frames is not None and frames > most:
        raise InvalidParameter(f"{frames} frames; at most {most} are looked at ({MOST})")
    if fps is None and frames is not None:
        return _spread(range(len(times)), frames)
    if fps is None:
        fps, frames = usual[0], min(usual[1], most)
    count = max(1, math.ceil(end_s * fps))
    if frames is None and count > most:
        raise InvalidParameter(
            f"{fps:g} frames a second are {count} of {end_s:.4g} s; at most {most} are looked at"
            f" ({MOST})"
        )
    shown = (bisect.bisect_right(times, number / fps) - 1 for number in range(count))
    distinct = list(dict.fromkeys(max(0, number) for number in shown))
    return _spread(distinct, len(distinct) if frames is None else frames)


def _spread(numbers: Sequence[int], count: int) -> tuple[int, ...]:
    """`count` of `numbers`, evenly: the first and the last among them, where there are two."""
    last = len(numbers) - 1
    if count > last:
        return tuple(numbers)
    if count == 1:
        return (numbers[0],)
    return tuple(numbers[place * last // (count - 1)] for place in range(count))


def clock_times(seconds: Sequence[float]) -> list[str]:
    """Times as `M:SS`, or `H:MM:SS` from an hour on; with tenths where two would be the same."""
    whole = [_clock(math.floor(one)) for one in seconds]
    if len(set(whole)) == len(whole):
        return whole
    tenths = [math.floor(one * 10 + 1e-6) for one in seconds]
    return [f"{_clock(tenth // 10)}.{tenth % 10}" for tenth in tenths]


def _clock(seconds: int) -> str:
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minutes}:{second:02}"
