"""What doors do where a request does not say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nsedge.security.watched_file import WatchedFile
from nsedge.web.adaptations import Adaptations


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorSettings:
    """- chunk: how the text of a stream is cut, as `nsedge.web.chunking` says.
    - regular_model: the chat service's where none is named; empty is the first that is ready.
    - vision_model: the same for its vision routes; empty is regular_model.
    - caption_model: what captions where none is named; empty is vision_model, or the first that
      does.
    - speech_model: what transcribes where none is named; empty is the first that does.
    - adaptations: how the studio prompts single models.
    - responses_kept, responses_kept_s: OpenAI's responses that are kept, and for how long.
    - ratings_file: where the studio keeps its ratings over restarts; None is nowhere.
    """

    chunk: Literal["token", "adaptive"] | int = "token"
    regular_model: str = ""
    vision_model: str = ""
    caption_model: str = ""
    speech_model: str = ""
    responses_kept: int = 256
    responses_kept_s: float = 3600.0
    adaptations: WatchedFile[Adaptations] | None = None
    ratings_file: Path | None = None
