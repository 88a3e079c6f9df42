"""What libraries say of themselves while they work."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' notes, bars and warnings; errors come as exceptions all the same."""
    before = logging.root.manager.disable
    verbosity = transformers.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.disable(before)
            transformers.logging.set_verbosity(verbosity)
            transformers.logging.enable_progress_bar()
