"""Settings: what there are, and the one reader of file, environment and flags."""

from nsedge.config.reader import Loaded as Loaded
from nsedge.config.reader import environment as environment
from nsedge.config.reader import load as load
