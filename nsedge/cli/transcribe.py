"""`nsedge transcribe FILE...`: what is said in recordings, or in sound while it comes, as text,
subtitles or JSON."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterable
from typing import cast

import msgspec

from nsedge.api import Event, Feed, Loading, Progress, Segment, Transcribe
from nsedge.api.languages import language_code
from nsedge.api.listen import ListenFields
from nsedge.api.tasks import TranscribeFields, ladder
from nsedge.api.transcripts import Gathering, TranscriptText, srt, vtt
from nsedge.cli import live_sound, output
from nsedge.cli.exits import ExitStatus
from nsedge.cli.scheduling import scheduling_of
from nsedge.cli.several import STDIN, Asked, asked, default_model, show_each
from nsedge.config.reader import Loaded
from nsedge.errors import InvalidParameter, NsedgeError
from nsedge.ipc import reach
from nsedge.ipc.client import Client
from nsedge.process import console

BAR = 20
"""Characters of a whole bar."""
PARTIAL = 72
"""Characters that are shown of what is being said, the last of them."""


def run(loaded: Loaded, options: argparse.Namespace) -> int:
    """Transcribe the files; 1 where one of several could not be."""
    if options.json and (options.srt or options.vtt):
        raise InvalidParameter("--json is no subtitles: leave --srt and --vtt out")
    _check_source(options)
    show = _showing(options)
    if options.live or options.microphone:
        return _live(loaded, options, show)
    several, fields = len(options.files) > 1, _fields(options)
    with reach.to_core(loaded.settings) as client:
        model = _model(client, loaded, options)
        return show_each(
            asked(options.files, lambda name, data: client.transcribe(model, data, **fields)),
            lambda one: _show(one, show, several=several, quiet=options.quiet),
            several=several,
        )


def _model(client: Client, loaded: Loaded, options: argparse.Namespace) -> str:
    """The model that is asked."""
    return options.model or default_model(
        client,
        loaded.settings.media.speech_model,
        task=Transcribe.name,
        missing="no model here transcribes: nsedge-export starter --speech makes one",
    )


def _check_source(options: argparse.Namespace) -> None:
    """Raises InvalidParameter where there is nothing to hear, or that contradicts itself."""
    if options.microphone and (options.files or options.live):
        raise InvalidParameter("--microphone is heard alone: leave files and --live out")
    if options.live and options.files not in ([], [STDIN]):
        raise InvalidParameter("--live hears standard input alone: -")
    if options.raw is not None and not options.live:
        raise InvalidParameter("--raw is of what --live hears")
    if not (options.files or options.live or options.microphone):
        raise InvalidParameter(f"a FILE is missing; {STDIN} is standard input")
    if options.live or options.microphone:
        for name in ("temperature", "seed", "beams", "patience"):
            if getattr(options, name) is not None:
                raise InvalidParameter(f"--{name} is of recordings, and not of sound that comes")


def _live(loaded: Loaded, options: argparse.Namespace, show: Show) -> int:
    """Write what is said in sound while it comes."""
    feed, fields = Feed(), _live_fields(options)
    with reach.to_core(loaded.settings) as client, contextlib.ExitStack() as sound:
        model = _model(client, loaded, options)
        if options.microphone:
            name = "the microphone"
            fields["rate"] = live_sound.MICROPHONE_HZ
            sound.enter_context(live_sound.recording(feed))
        else:
            name, stream = STDIN, getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
            shape = live_sound.raw_or_wav(stream, options.raw)
            fields |= {"form": shape.form, "rate": shape.rate, "channels": shape.channels}
            sound.enter_context(live_sound.pouring(stream, shape, feed))
        with live_sound.interrupted(feed), client.listen(model, feed, **fields) as events:
            _follow(name, events, show, quiet=options.quiet)
    return ExitStatus.OK


def _live_fields(options: argparse.Namespace) -> ListenFields:
    asked = {
        "translate": options.translate,
        "prompt": options.prompt_text or "",
        "word_timestamps": options.words,
        "vad": options.vad,
        **scheduling_of(options),
    }
    if options.language is not None:
        asked["language"] = language_code(options.language)
    return cast(ListenFields, asked)


def _fields(options: argparse.Namespace) -> TranscribeFields:
    asked = {
        "translate": options.translate,
        "prompt": options.prompt_text or "",
        "word_timestamps": options.words,
        "vad": options.vad,
        "seed": options.seed,
        **scheduling_of(options),
    }
    if options.language is not None:
        asked["language"] = language_code(options.language)
    for name in ("beams", "patience"):
        if (value := getattr(options, name)) is not None:
            asked[name] = value
    if options.temperature is not None:
        asked["temperatures"] = ladder(options.temperature)
    return cast(TranscribeFields, asked)


Show = Callable[[str, Segment | TranscriptText], None]
"""Writes what came of a file: each segment as it comes, and then the whole."""


def _showing(options: argparse.Namespace) -> Show:
    if options.json:
        return _as_json
    if options.srt or options.vtt:
        return _as_subtitles(srt if options.srt else vtt)
    return _as_words if options.words else _as_text


def _as_text(name: str, told: Segment | TranscriptText) -> None:
    if isinstance(told, Segment):
        console.status("")
        output.say(f"{told.text.strip()}\n")


def _as_words(name: str, told: Segment | TranscriptText) -> None:
    if isinstance(told, Segment):
        console.status("")
        for word in told.words:
            output.say(f"{word.start_s:.2f}\t{word.end_s:.2f}\t{word.text.strip()}\n")


def _as_subtitles(form: Callable[[tuple[Segment, ...]], str]) -> Show:
    def show(name: str, told: Segment | TranscriptText) -> None:
        if isinstance(told, TranscriptText):
            output.say(form(told.segments))

    return show


def _as_json(name: str, told: Segment | TranscriptText) -> None:
    if isinstance(told, TranscriptText):
        segments = [msgspec.to_builtins(one) for one in told.segments]
        for one in segments:
            del one["request_id"], one["final"]
        output.say_json(
            {
                "file": name,
                "language": told.language,
                "duration_s": round(told.usage.audio_s, 2),
                "text": told.text,
                "segments": segments,
            }
        )


def _show(asked: Asked, show: Show, *, several: bool, quiet: bool) -> None:
    """Write what comes of one file. Raises what it failed with, and whose file that was."""
    if several and show in (_as_text, _as_words):
        output.say(f"==> {asked.name} <==\n")
    try:
        with asked.events as events:
            _follow(asked.name, events, show, quiet=quiet)
    except NsedgeError as error:
        if several:
            error.message = f"{asked.name}: {error.message}"
        raise


def _follow(name: str, events: Iterable[Event], show: Show, *, quiet: bool) -> None:
    """Write what comes of one source. Raises what it failed with."""
    found, began_s = Gathering(), time.monotonic()
    try:
        for event in events:
            found.saw(event)
            _tell(name, event, show, quiet=quiet)
    finally:
        console.status("")
    whole = found.result()
    show(name, whole)
    if not quiet and show is not _as_json:
        heard_s, took_s = whole.usage.audio_s, time.monotonic() - began_s
        language = f" · {whole.language}" if whole.language else ""
        console.note(f"{heard_s:.1f} s of sound in {took_s:.1f} s{language}")


def _tell(name: str, event: Event, show: Show, *, quiet: bool) -> None:
    """Write a segment, or how far it is."""
    if isinstance(event, Segment) and event.final:
        show(name, event)
    elif isinstance(event, Segment):
        console.status(event.text.strip()[-PARTIAL:])
    elif quiet:
        return
    elif isinstance(event, Progress):
        console.status(f"{_bar(event)}{_clock(event.done)} of {_clock(event.total)} {name}")
    elif isinstance(event, Loading):
        console.status(f"loading {event.model} {event.progress:.0%}")


def _bar(progress: Progress) -> str:
    """[=====               ]  25%"""
    if not progress.total:
        return ""
    share = min(1.0, progress.done / progress.total)
    return f"[{'=' * round(BAR * share):{BAR}}] {share:4.0%} "


def _clock(seconds: float | None) -> str:
    """1:02:03"""
    if seconds is None:
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
