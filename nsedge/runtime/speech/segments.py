"""The tokens of a window to segments, and how far it was heard (as OpenAI's whisper/transcribe.py
reads them)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsedge.runtime.audio.samples import FRAMES_PER_S
from nsedge.runtime.speech.vocabulary import FRAMES_A_TOKEN, TOKEN_S, SpeechTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A segment within its window: seconds from the window's beginning, and its tokens, timestamps
    among them."""

    start_s: float
    end_s: float
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The segments of a window; `advance`: frames until the next one begins."""

    stretches: tuple[Stretch, ...]
    advance: int


def cut(drawn: Sequence[int], frames: int, tokens: SpeechTokens) -> Written:
    """What was written of a window with `frames` frames of sound.

    Two timestamps in a row stand between two segments. Where text follows the last pair that no
    timestamp ends, the next window begins there, so that it is heard whole.
    """
    first, sound_s = tokens.first_timestamp, frames / FRAMES_PER_S
    is_time = [token >= first for token in drawn]
    cuts = [at for at in range(1, len(drawn)) if is_time[at - 1] and is_time[at]]
    ends_whole = is_time[-2:] == [False, True]
    if ends_whole or not cuts:
        cuts.append(len(drawn))
        advance = frames
    else:
        advance = (drawn[cuts[-1] - 1] - first) * FRAMES_A_TOKEN
    stretches = [
        _stretch(drawn[begin:end], sound_s, first)
        for begin, end in zip([0, *cuts], cuts, strict=False)
    ]
    return Written(
        stretches=tuple(one for one in stretches if one is not None),
        advance=advance if 0 < advance < frames else frames,
    )


def _stretch(drawn: Sequence[int], sound_s: float, first: int) -> Stretch | None:
    """The segment of some tokens, which ends with the sound at the latest; none where it takes no
    time, or has no text."""
    times = [(token - first) * TOKEN_S for token in drawn if token >= first]
    if len(times) == len(drawn):
        return None
    start_s = times.pop(0) if times and drawn[0] >= first else 0.0
    end_s = times[-1] if times else sound_s
    if times and end_s <= start_s:
        return None
    end_s = min(end_s, sound_s)
    return Stretch(start_s=min(start_s, end_s), end_s=end_s, tokens=tuple(drawn))
