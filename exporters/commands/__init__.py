"""The sub-commands, a module each: `add` enters one in the parser, `run` is what it then calls.

`run` imports what does the work itself, so that --help and a wrong call wait for no library.
"""

from __future__ import annotations

from typing import Any

Commands = Any
"""What `argparse.ArgumentParser.add_subparsers` gives; its class is private."""
