"""Pictures and sound in the messages of a chat, asked of a model that does not take them."""

from __future__ import annotations

from collections.abc import Iterable

from nsedge.api import Chat, Media, Task
from nsedge.errors import InvalidParameter
from nsedge.runtime.residency.entries import Entry

_NEEDED = {
    "image": ("caption", "captions pictures"),
    "video": ("caption", "captions pictures"),
    "audio": ("transcribe", "transcribes sound"),
}
"""By the kind of a medium, the task of a model that makes text of it, in words, too."""


def check_media(task: Task, entry: Entry, others: Iterable[Entry]) -> None:
    """Refuse media in a conversation that its model does not take, as far as that is known.

    Raises:
        InvalidParameter: naming the message, and the model that is missing, or which of `others`
            makes text of such media.
    """
    if not isinstance(task, Chat):
        return
    takes = () if entry.manifest is None else entry.manifest.media_kinds
    for number, message in enumerate(task.messages):
        for media in message.media:
            if media.kind not in takes:
                reads = " and ".join(("text", *takes))
                raise InvalidParameter(
                    f"messages[{number}]: this model reads {reads}, and takes no {media.type};"
                    f" {_instead(media, others)}",
                    param="messages",
                )


def _instead(media: Media, others: Iterable[Entry]) -> str:
    task, does = _NEEDED.get(media.kind, ("caption", "makes text of it"))
    for entry in others:
        manifest = entry.manifest
        if manifest is not None and task in manifest.tasks:
            return f"{entry.name} {does}: ask it first, and say what it found"
    return f"a model that {does} is missing here"
