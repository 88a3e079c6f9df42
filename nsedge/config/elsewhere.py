"""Variables of older servers whose clients come here: none is read, and whoever sets one is told
what to set instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nsedge.config.declared import KEYS

INSTEAD: dict[str, str | None] = {
    "MODEL_CACHE_DIR": "home",
    "API_HOST": "web.host",
    "API_PORT": "web.port",
    "CORS_ORIGINS": "web.cors_origins",
    "DEFAULT_REGULAR_MODEL": "doors.regular_model",
    "DEFAULT_VISION_MODEL": "doors.vision_model",
    "STREAMING_CHUNK_SIZE": "doors.chunk",
    "STREAMING_DELAY": None,
    "MAX_PARALLEL_WORKERS": "web.max_in_flight",
    "PRELOAD_TOP_MODELS": "models.preload_top",
}
"""Variable -> the setting that does the same; None where nothing does. HOST and PORT were known,
too: many machines set them for something else."""


def unread(environ: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each such variable that is set, where its setting is not."""
    for variable, path in INSTEAD.items():
        if variable not in environ:
            continue
        if path is None:
            yield f"{variable} is not read: no text is ever held back for a time"
            continue
        variables = KEYS[path].variables
        if not any(name in environ for name in variables):
            yield f"{variable} is not read: {path} is the setting, and {variables[0]} its variable"
