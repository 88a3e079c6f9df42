"""Silero's voice activity model (ONNX, version 5 and later) in a session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nsedge.runtime.audio.samples import RATE, Samples
from nsedge.runtime.audio.voice import VOICE_FRAME, Voice
from nsedge.runtime.graph.session import open_session

_CONTEXT = 64
"""Samples before a frame that the model sees, too."""
_STATE = (2, 1, 128)


class VoiceSession:
    """Tells of any number of sounds, at the same time, where somebody speaks in them."""

    def __init__(self, graph: Path) -> None:
        """Open `graph`; raises what `open_session` does."""
        self._session = open_session(graph, "cpu", 1)

    def listen(self) -> Voice:
        """For one sound; from one thread at a time."""
        state = np.zeros(_STATE, np.float32)
        seen = np.zeros((1, _CONTEXT + VOICE_FRAME), np.float32)
        rate = np.array(RATE, np.int64)

        def likely(samples: Samples) -> NDArray[np.float32]:
            nonlocal state
            frames = samples.reshape(-1, VOICE_FRAME)
            found = np.empty(len(frames), np.float32)
            for index, frame in enumerate(frames):
                seen[0, :_CONTEXT] = seen[0, -_CONTEXT:]
                seen[0, _CONTEXT:] = frame
                feeds = {"input": seen, "state": state, "sr": rate}
                output, state = self._session.run(("output", "stateN"), feeds)
                found[index] = output[0, 0]
            return found

        return likely
