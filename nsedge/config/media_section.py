"""The section on pictures and sound in conversations."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from nsedge.config.fields import Section, number, text

_TEMPLATE = "a text with {n} and {%s}"


class MediaParts(Section, frozen=True, kw_only=True):
    """Pictures and sound, and the models that make texts of them."""

    join: Annotated[
        bool,
        Meta(
            description="Give models that read text alone what others make of the pictures and"
            " recordings in a conversation; false refuses these (docs/media.md)."
        ),
    ] = True
    caption_model: Annotated[
        str,
        text(
            "The model that captions pictures where a request names none; empty is the only one"
            " there is.",
            "a model's name",
        ),
    ] = ""
    speech_model: Annotated[
        str,
        text(
            "The model that transcribes where a request names none; empty is the only one there is"
            " (where a request only transcribes, the first).",
            "a model's name",
        ),
    ] = ""
    image_template: Annotated[
        str,
        text(
            "What stands in the place of a picture: {n} is its number among those of the"
            " conversation, {caption} what was made of it; a brace that is meant is written twice.",
            _TEMPLATE % "caption",
        ),
    ] = "[Image {n}: {caption}]"
    audio_template: Annotated[
        str,
        text(
            "What stands in the place of a recording, likewise.",
            _TEMPLATE % "transcript",
        ),
    ] = "[Audio {n}: {transcript}]"
    video_template: Annotated[
        str,
        text(
            "What stands in the place of a film, likewise: {captions} is a line for each frame that"
            " is looked at, its time and what was made of it.",
            _TEMPLATE % "captions",
        ),
    ] = "[Video {n}:\n{captions}]"
    video_frames: Annotated[
        int,
        number(
            "Frames of a film that are captioned at most, one a second, where a request says"
            " nothing.",
            1,
            4096,
        ),
    ] = 8
    url_hosts: Annotated[
        tuple[str, ...],
        text(
            "Hosts that the shim fetches pictures and sound from that a body names by a URL; empty"
            " is none, `*` any that has public addresses alone, `*.DOMAIN` all below one. Without a"
            " port, that of the scheme.",
            "a list of HOST, HOST:PORT, *.DOMAIN or *",
        ),
    ] = ()
    url_bytes: Annotated[
        int, number("The largest picture or recording that is fetched.", 1024, 2**30)
    ] = 8 * 2**20
    url_s: Annotated[float, number("Seconds for all that fetching one takes.", 0.1, 600)] = 10.0
    kept_bytes: Annotated[
        int,
        number("Memory for what was made of media, so that a later turn has it at once.", 0, 2**40),
    ] = 4 * 2**20
