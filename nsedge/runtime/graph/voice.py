"""Silero's voice activity model in a session: version 6, the graph of sequences at 16 kHz, which
judges any number of frames in a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nsedge.runtime.audio.samples import Samples
from nsedge.runtime.audio.voice import VOICE_FRAME, Voice
from nsedge.runtime.graph.session import open_session

_CONTEXT = 64
"""Samples before a frame that the model sees, too."""
_STATE = (1, 1, 128)
_OUTPUTS = ("speech_probs", "hn", "cn")


class VoiceSession:
    """Tells of any number of sounds, at the same time, where somebody speaks in them."""

    def __init__(self, graph: Path) -> None:
        """Open `graph`; raises what `open_session` does."""
        self._session = open_session(graph, "cpu", 1)

    def listen(self) -> Voice:
        """For one sound; from one thread at a time."""
        hidden, cell = np.zeros(_STATE, np.float32), np.zeros(_STATE, np.float32)
        before = np.zeros(_CONTEXT, np.float32)

        def likely(samples: Samples) -> NDArray[np.float32]:
            nonlocal hidden, cell, before
            whole = np.concatenate([before, samples])
            frames = sliding_window_view(whole, _CONTEXT + VOICE_FRAME)[::VOICE_FRAME]
            feeds = {"input": np.ascontiguousarray(frames), "h": hidden, "c": cell}
            found, hidden, cell = self._session.run(_OUTPUTS, feeds)
            before = whole[-_CONTEXT:]
            return np.asarray(found, np.float32)

        return likely
