"""What holds for all tests, wherever they run."""

import os
import signal

from hypothesis import settings

# Property tests look for new examples at a desk, and repeat known ones where CI is set.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# A shell ignores Ctrl-C for what it puts into the background, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
