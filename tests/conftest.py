"""What holds for all tests, wherever they run."""

import os
import signal

from hypothesis import HealthCheck, settings

# Property tests look for new examples at a desk, and repeat known ones where CI is set. How long an
# example takes, or to find one, depends on what else the machine does.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("desk", UNHURRIED)
settings.register_profile("ci", UNHURRIED, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# A shell ignores Ctrl-C for what it puts into the background, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
