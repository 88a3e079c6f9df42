"""What the inputs and outputs of a speech model's graphs are called."""

from __future__ import annotations

from exporters.conditioned.naming import MEMORY
from nsedge.bundle.speech import ListenerIo

WEIGHTS = "weights"
ENCODER = ListenerIo(memory=MEMORY)
