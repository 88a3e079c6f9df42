"""How sound is held: mono, float32 within -1 and 1, 16,000 samples a second."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
"""Samples a second."""
FRAME = 160
"""Samples of a frame, the step of features: 10 ms."""
FRAMES_PER_S = RATE // FRAME
WINDOW_FRAMES = 3000
"""Frames of a window: 30 s."""
WINDOW = WINDOW_FRAMES * FRAME
"""Samples of a window."""

Samples = NDArray[np.float32]
