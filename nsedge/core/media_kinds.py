"""The kinds of media that become texts: which task makes one, and how it stands in a prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from nsedge.api import Caption, Event, Media, Sampling, Task, Transcribe
from nsedge.api.collecting import Collecting
from nsedge.api.transcripts import Gathering
from nsedge.core.media_template import MediaTemplate
from nsedge.core.media_texts import MediaText

SEED = 0
"""Of what is drawn where a model is in doubt: the same medium is to give the same text again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaSettings:
    """Which models make texts of media, and how these stand in a prompt.

    - join: False refuses media for models that read text alone.
    - caption_model, speech_model: empty is the only one there is.
    - video_frames: of a film, where nothing is said of it, so many frames at most are captioned.
    - kept_bytes: of the texts that are kept, so that a later turn finds them.
    """

    join: bool = True
    caption_model: str = ""
    speech_model: str = ""
    image_template: str = "[Image {n}: {caption}]"
    audio_template: str = "[Audio {n}: {transcript}]"
    video_template: str = "[Video {n}:\n{captions}]"
    video_frames: int = 8
    kept_bytes: int = 4 << 20


class Reading(Protocol):
    """Takes the events of a request that makes a text of a medium."""

    def saw(self, event: Event) -> None:
        """Take the next; raises what the request failed with."""

    def made(self) -> MediaText:
        """What came of it, once it has ended."""


class _Hearing:
    """Of one that transcribes."""

    def __init__(self) -> None:
        self._gathering = Gathering()

    def saw(self, event: Event) -> None:
        self._gathering.saw(event)

    def made(self) -> MediaText:
        found = self._gathering.result()
        return MediaText(text=found.text, audio_s=found.usage.audio_s)


class _Seeing:
    """Of one that captions."""

    def __init__(self) -> None:
        self._collecting = Collecting()

    def saw(self, event: Event) -> None:
        self._collecting.saw(event)

    def made(self) -> MediaText:
        return MediaText(text=self._collecting.collected().text.strip(), images=1)


def _caption(media: Media) -> Caption:
    return Caption(media=media, sampling=Sampling(seed=SEED))


def _transcribe(media: Media) -> Transcribe:
    return Transcribe(media=media, seed=SEED)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaKind:
    """A kind of media: who makes text of it, and how that stands in a prompt.

    - does: what such a model does, in words.
    - model, setting: its name as configured, and the setting that says so.
    - by_frames: it is asked of frames, whose texts stand a line each, behind their times.
    """

    task: str
    does: str
    model: str
    setting: str
    template: MediaTemplate
    ask: Callable[[Media], Task]
    reading: Callable[[], Reading]
    by_frames: bool = False


def kinds_of(settings: MediaSettings) -> Mapping[str, MediaKind]:
    """Those there are, by the kind of a media type.

    Raises:
        ConfigInvalid: a template that cannot be filled, by its setting.
    """
    kinds = {
        "image": MediaKind(
            task=Caption.name,
            does="captions pictures",
            model=settings.caption_model,
            setting="media.caption_model",
            template=MediaTemplate(settings.image_template, "caption"),
            ask=_caption,
            reading=_Seeing,
        ),
        "audio": MediaKind(
            task=Transcribe.name,
            does="transcribes sound",
            model=settings.speech_model,
            setting="media.speech_model",
            template=MediaTemplate(settings.audio_template, "transcript"),
            ask=_transcribe,
            reading=_Hearing,
        ),
        "video": MediaKind(
            task=Caption.name,
            does="captions pictures",
            model=settings.caption_model,
            setting="media.caption_model",
            template=MediaTemplate(settings.video_template, "captions"),
            ask=_caption,
            reading=_Seeing,
            by_frames=True,
        ),
    }
    for name, kind in kinds.items():
        kind.template.check(f"media.{name}_template")
    return kinds
