"""What an engine times, on its own thread."""

from __future__ import annotations

from nsedge.api import ModelTimes
from nsedge.runtime.decode.sequence import Sequence
from nsedge.telemetry.histogram import TOKEN_BOUNDS_S, WAIT_BOUNDS_S, Stopwatch


class Times:
    """The durations of `ModelTimes`, as they are counted. Well under a microsecond a token."""

    def __init__(self) -> None:
        self.queue = Stopwatch(WAIT_BOUNDS_S)
        self.prefill = Stopwatch(WAIT_BOUNDS_S)
        self.first_token = Stopwatch(WAIT_BOUNDS_S)
        self.inter_token = Stopwatch(TOKEN_BOUNDS_S)
        self.request = Stopwatch(WAIT_BOUNDS_S)
        self.step = Stopwatch(TOKEN_BOUNDS_S)

    def token(self, sequence: Sequence, now_s: float) -> None:
        """`sequence` is about to get a token."""
        if sequence.last_token_s is not None:
            self.inter_token.add(now_s - sequence.last_token_s)
            return
        self.first_token.add(now_s - sequence.submitted_s)
        if sequence.started_s is not None:
            self.prefill.add(now_s - sequence.started_s)

    def read(self) -> ModelTimes:
        """What was counted, from any thread."""
        return ModelTimes(
            queue=self.queue.read(),
            prefill=self.prefill.read(),
            first_token=self.first_token.read(),
            inter_token=self.inter_token.read(),
            request=self.request.read(),
            step=self.step.read(),
        )
