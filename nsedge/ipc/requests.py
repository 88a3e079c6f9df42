"""Requests to messages and back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec

from nsedge import api
from nsedge.api.scheduling import scheduling_of
from nsedge.errors import InvalidParameter, InvalidRequest, MessageTooLarge, UnsupportedVersion
from nsedge.ipc import messages as wire
from nsedge.ipc import protocol

MediaOf = Callable[[wire.MediaPart], api.Media]
_SINCE: dict[type, int] = {
    wire.Embed: 3,
    **dict.fromkeys((wire.Classify, wire.Fill, wire.Score, wire.Transcribe), 5),
    **dict.fromkeys((wire.Caption, wire.Listen, wire.Imagine), 6),
}
"""The minor version whose clients can read what comes of a task, where not all can."""
_TELLING = ("tools", "split_reasoning")
"""Fields of a chat that bring events of 1.4."""
_OF_CHAT = tuple(
    name
    for name in wire.Chat.__struct_fields__[len(wire.Asked.__struct_fields__) :]
    if name != "messages"
)
"""The fields of a chat that are the same here and there."""
_OF_PROMPT = tuple(name for name in _OF_CHAT if name not in ("sampling", "constraint"))
"""Of these, what a prompt is made of."""
_OF_TASK = {
    wire.Embed: (api.Embed, ("inputs", "dimensions", "truncate")),
    wire.Classify: (
        api.Classify,
        (
            *("inputs", "top_k", "activation", "aggregation", "truncate"),
            *("labels", "prompt"),
        ),
    ),
    wire.Fill: (api.Fill, ("inputs", "top_k")),
    wire.Score: (api.Score, ("query", "documents", "truncate")),
    wire.Listen: (
        api.Listen,
        wire.Listen.__struct_fields__[len(wire.Asked.__struct_fields__) :],
    ),
    wire.Imagine: (
        api.Imagine,
        wire.Imagine.__struct_fields__[len(wire.Asked.__struct_fields__) :],
    ),
}
"""Messages of tasks whose fields are the same here and there, by name."""
_TOLD_AS = {task: (message, names) for message, (task, names) in _OF_TASK.items()}
_OF_MESSAGE = ("tool_calls", "tool_call_id", "name", "reasoning")
_ABOUT: tuple[tuple[type[wire.Asked], type[api.Transcribe | api.Caption]], ...] = (
    (wire.Transcribe, api.Transcribe),
    (wire.Caption, api.Caption),
)
_OF_MEDIA: dict[type, tuple[type[api.Transcribe | api.Caption], tuple[str, ...]]] = {
    told: (
        task,
        tuple(
            name
            for name in told.__struct_fields__[len(wire.Asked.__struct_fields__) :]
            if name != "media"
        ),
    )
    for told, task in _ABOUT
}
"""Messages of tasks about one recording or picture: the task, and the other fields of it, which are
the same here and there."""
_TOLD_OF_MEDIA = {task: (told, names) for told, (task, names) in _OF_MEDIA.items()}
_SHOWN = ("image", "mask")
"""Fields of a task that are media, where they are there."""
_ANSWERS_SINCE = 4
"""The minor version that brought constraints, suffixes and most of sampling, which older daemons
would pass over."""
_SEEN_SINCE = 5
"""The minor version that brought media as inputs, and raw frames."""
_ONE = api.Sampling()
MAX_ID = 128
MAX_MODEL = 256


def request_of(message: wire.Asking, media: MediaOf) -> api.Request:
    """The request that a message asks for; `media` gives what its parts show, and raises what is
    wrong with them."""
    return api.Request(
        request_id=message.id,
        model=message.model,
        task=_task_of(message, media),
        **scheduling_of(message),
    )


def check_readable(message: wire.Asking, minor: int) -> None:
    """Refuse a task whose results a client of protocol 1.`minor` cannot read.

    Raises:
        UnsupportedVersion: naming the version that can.
    """
    since, param, what = _SINCE.get(type(message), 0), "type", message.__struct_config__.tag
    if isinstance(message, wire.Chat):
        for name in _TELLING:
            if getattr(message, name):
                since, param, what = 4, name, f"chat with {name}"
    if getattr(message, "sampling", _ONE).n > 1:
        since, param, what = 4, "sampling.n", "n above 1"
    if since > minor:
        raise UnsupportedVersion(
            f"{what} needs protocol 1.{since}; this client said 1.{minor}", param=param
        )


def _task_of(message: wire.Asking, media: MediaOf) -> api.Task:
    match message:
        case wire.Generate():
            return api.Generate(
                text=message.text,
                suffix=message.suffix,
                extra_files=message.extra_files,
                token_ids=message.token_ids,
                sampling=message.sampling,
                constraint=message.constraint,
            )
        case wire.Chat():
            turns = tuple(_said(turn, media) for turn in message.messages)
            return api.Chat(messages=turns, **_same(message, _OF_CHAT))
        case wire.Transcribe() | wire.Caption():
            about, names = _OF_MEDIA[type(message)]
            return about(media=media(message.media), **_same(message, names))
        case _:
            kind, names = _OF_TASK[type(message)]
            fields = _same(message, names)
            if "inputs" in fields:
                fields["inputs"] = tuple(
                    media(one) if isinstance(one, wire.MediaPart) else one
                    for one in fields["inputs"]
                )
            for name in _SHOWN:
                if (part := fields.get(name)) is not None:
                    fields[name] = media(part)
            task: api.Task = kind(**fields)
            return task


def _said(turn: wire.Message, media: MediaOf) -> api.Message:
    content, more = turn.content, _same(turn, _OF_MESSAGE)
    if isinstance(content, str):
        return api.Message(role=turn.role, content=content, **more)
    parts = tuple(
        api.TextPart(text=part.text)
        if isinstance(part, wire.TextPart)
        else api.MediaPart(media=media(part), place=part.place, fps=part.fps, frames=part.frames)
        for part in content
    )
    return api.Message(role=turn.role, content=parts, **more)


def _same(one: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(one, name) for name in names}


def question_of(message: wire.ReadPrompt) -> api.PromptQuestion:
    """The question that a message asks.

    Raises:
        InvalidParameter: its request names media, instead of giving them.
    """
    asked = request_of(message.request, _given)
    if not isinstance(asked.task, api.Generate | api.Chat):
        raise InvalidRequest("only text has a prompt", param="request")
    return api.PromptQuestion(
        model=asked.model,
        task=asked.task,
        add_special=message.add_special,
        parse_special=message.parse_special,
        with_pieces=message.with_pieces,
    )


def read_prompt_of(question: api.PromptQuestion, label: str) -> wire.ReadPrompt:
    """The message that asks a question; media are given in it."""
    task, model = question.task, question.model
    request: wire.Generate | wire.Chat
    if isinstance(task, api.Generate):
        request = wire.Generate(
            id=label,
            model=model,
            text=task.text,
            suffix=task.suffix,
            extra_files=task.extra_files,
            token_ids=task.token_ids,
        )
    else:
        turns = tuple(_turn(message, ()) for message in task.messages)
        request = wire.Chat(id=label, model=model, messages=turns, **_same(task, _OF_PROMPT))
    return wire.ReadPrompt(
        id=label,
        request=request,
        add_special=question.add_special,
        parse_special=question.parse_special,
        with_pieces=question.with_pieces,
    )


def _given(part: wire.MediaPart) -> api.Media:
    """The media that a part gives."""
    if part.data is None:
        raise InvalidParameter(
            "media whose prompt is asked for are given, not named", param="messages"
        )
    return api.Media(type=part.media_type, data=part.data, shape=part.shape, dtype=part.dtype)


def media_of(request: api.Request) -> tuple[api.Media, ...]:
    """The media of a request, in order."""
    task = request.task
    if isinstance(task, api.Transcribe | api.Caption):
        return (task.media,)
    if isinstance(task, api.Chat):
        return tuple(media for message in task.messages for media in message.media)
    if isinstance(task, api.Imagine):
        return task.media
    if isinstance(task, api.Embed | api.Classify):
        return tuple(one for one in task.inputs if isinstance(one, api.Media))
    return ()


def encode_request(
    request: api.Request, *, credit: int | None = None, named: Collection[str] = ()
) -> bytes:
    """The payload frame that asks for a request, with `credit` bytes to begin with. Media whose
    hash is in `named` are named by it, all others given.

    Raises:
        InvalidParameter: a parameter out of range.
        InvalidRequest: the id or the model's name is empty or too long, or a text is not Unicode.
    """
    request.check()
    for param, text, limit in (
        ("id", request.request_id, MAX_ID),
        ("model", request.model, MAX_MODEL),
    ):
        if not 1 <= len(text) <= limit:
            raise InvalidRequest(f"{param} must have 1 to {limit} characters", param=param)
    try:
        return protocol.encode(_message_of(request, credit, named))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(f"the request cannot be written: {error}") from error


def check_known(request: api.Request, version: str) -> None:
    """Refuse what a daemon of protocol `version` would pass over, though it changes the answer.

    Raises:
        UnsupportedVersion: naming the version that knows it.
    """
    minor, task = protocol.minor_of(version), request.task
    if isinstance(task, api.Transcribe | api.Caption | api.Listen | api.Imagine):
        told, _ = {**_TOLD_OF_MEDIA, **_TOLD_AS}[type(task)]
        if minor < _SINCE[told]:
            raise UnsupportedVersion(
                f"{task.name} needs a daemon of protocol 1.{_SINCE[told]}, not {version}",
                param="type",
            )
    if minor < _SEEN_SINCE and any(
        media.shape or not isinstance(task, api.Chat) for media in media_of(request)
    ):
        raise UnsupportedVersion(
            f"media as inputs, and raw frames, need a daemon of protocol 1.{_SEEN_SINCE}, not"
            f" {version}",
            param="inputs",
        )
    if minor >= _ANSWERS_SINCE:
        return
    if not isinstance(task, api.Generate | api.Chat):
        return
    new = protocol.new_in_sampling(task.sampling)
    fields = ["constraint"] * (task.constraint is not None)
    if isinstance(task, api.Generate):
        fields += [name for name in ("suffix", "token_ids") if getattr(task, name) is not None]
        fields += ["extra_files"] * bool(task.extra_files)
    elif task.reasoning_effort is not None:
        fields.append("reasoning_effort")
    for name, since in (new | dict.fromkeys(fields, _ANSWERS_SINCE)).items():
        raise UnsupportedVersion(
            f"{name} needs a daemon of protocol 1.{since}, not {version}", param=name
        )


def check_size(frame: bytes, limit: int) -> None:
    """Raises MessageTooLarge for a payload that makes a message of more than `limit` bytes."""
    if (room := room_of(frame, limit)) < 0:
        raise MessageTooLarge(f"the request has {limit - room} bytes; the daemon takes {limit}")


def room_of(frame: bytes, limit: int) -> int:
    """Bytes that a message of at most `limit` has left beside a payload; negative where it is too
    large."""
    return limit - len(protocol.MAGIC) - len(frame)


def _message_of(request: api.Request, credit: int | None, named: Collection[str]) -> wire.Asking:
    label, model, scheduling = request.request_id, request.model, scheduling_of(request)
    match request.task:
        case api.Generate(text=text, sampling=sampling, constraint=constraint) as task:
            return wire.Generate(
                id=label,
                model=model,
                credit=credit,
                text=text,
                suffix=task.suffix,
                extra_files=task.extra_files,
                token_ids=task.token_ids,
                sampling=sampling,
                constraint=constraint,
                **scheduling,
            )
        case api.Chat() as chat:
            turns = tuple(_turn(message, named) for message in chat.messages)
            return wire.Chat(
                id=label,
                model=model,
                credit=credit,
                messages=turns,
                **_same(chat, _OF_CHAT),
                **scheduling,
            )
        case api.Transcribe() | api.Caption() as about:
            told, names = _TOLD_OF_MEDIA[type(about)]
            seen: wire.Asking = told(
                id=label,
                model=model,
                credit=credit,
                media=_shown(about.media, named),
                **_same(about, names),
                **scheduling,
            )
            return seen
        case task:
            told, names = _TOLD_AS[type(task)]
            fields = _same(task, names)
            if "inputs" in fields:
                fields["inputs"] = tuple(
                    _shown(one, named) if isinstance(one, api.Media) else one
                    for one in fields["inputs"]
                )
            for name in _SHOWN:
                if (given := fields.get(name)) is not None:
                    fields[name] = _shown(given, named)
            asking: wire.Asking = told(id=label, model=model, credit=credit, **fields, **scheduling)
            return asking


def _turn(message: api.Message, named: Collection[str]) -> wire.Message:
    """Parts that are all text go as one, which daemons of 1.2 read, too."""
    more = _same(message, _OF_MESSAGE)
    if isinstance(message.content, str) or not message.media:
        return wire.Message(role=message.role, content=message.text, **more)
    parts = tuple(
        wire.TextPart(text=part.text)
        if isinstance(part, api.TextPart)
        else msgspec.structs.replace(
            _shown(part.media, named), place=part.place, fps=part.fps, frames=part.frames
        )
        for part in message.content
    )
    return wire.Message(role=message.role, content=parts, **more)


def _shown(media: api.Media, named: Collection[str]) -> wire.MediaPart:
    by_name = bool(named) and media.sha256 in named
    return wire.MediaPart(
        media_type=media.type,
        data=None if by_name else media.data,
        sha256=media.sha256 if by_name else None,
        shape=media.shape,
        dtype=media.dtype,
    )
