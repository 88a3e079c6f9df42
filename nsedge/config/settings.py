"""The settings there are: names, kinds, defaults and meanings. `config.reader` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from nsedge.config.door_sections import Client, Core, Doors, Web
from nsedge.config.fields import FILE_KIND, Section, text
from nsedge.config.media_section import MediaParts
from nsedge.config.model_sections import Engine, Models

__all__ = [
    "CREDENTIAL",
    "FILE_KIND",
    "SECTIONS",
    "Client",
    "Core",
    "Doors",
    "Engine",
    "Log",
    "MediaParts",
    "Models",
    "Observability",
    "Settings",
    "Web",
]

CREDENTIAL = "credential:"
"""Begins the name of a file that the service supervisor passes (systemd's LoadCredential)."""


class Log(Section, frozen=True, kw_only=True):
    """The log on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least that is told.")
    ] = "info"
    json: Annotated[bool, Meta(description="One JSON object a line instead of text.")] = False
    prompts: Annotated[
        bool, Meta(description="The text of prompts, too; without it no text is ever told.")
    ] = False


class Observability(Section, frozen=True, kw_only=True):
    """Telemetry that is sent elsewhere."""

    otlp_endpoint: Annotated[
        str,
        text(
            "An OpenTelemetry collector that takes spans over OTLP/HTTP, without `/v1/traces`;"
            " empty is what OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT say,"
            " or none. Needs the extra `telemetry`.",
            "http://HOST:PORT, https://HOST:PORT, or empty",
        ),
    ] = ""


class Settings(Section, frozen=True, kw_only=True):
    """All settings in force."""

    home: Annotated[
        Path,
        text(
            "Bundles and state.",
            "an absolute path",
            "`$XDG_DATA_HOME/nsedge`, or without that variable `~/.local/share/nsedge`",
        ),
    ]
    core: Core
    client: Client = Client()
    models: Models = Models()
    engine: Engine = Engine()
    web: Web = Web()
    doors: Doors = Doors()
    media: MediaParts = MediaParts()
    log: Log = Log()
    observability: Observability = Observability()

    @property
    def bundles(self) -> Path:
        """Where bundles live."""
        return self.home / "bundles"

    @property
    def usage_file(self) -> Path:
        """Where the use of models is kept over restarts."""
        return self.state / "usage.json"

    @property
    def state(self) -> Path:
        """Where state is kept over restarts."""
        return self.home / "state"

    @property
    def aliases_file(self) -> Path:
        """Where aliases that were given at run time are kept over restarts."""
        return self.state / "aliases.json"


SECTIONS: dict[str, type[Section]] = {
    "core": Core,
    "client": Client,
    "models": Models,
    "engine": Engine,
    "web": Web,
    "doors": Doors,
    "media": MediaParts,
    "log": Log,
    "observability": Observability,
}
